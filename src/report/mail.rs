//! The only door to SMTP: settings, and one attempt to hand a mail over.

use super::letter::Mail;
use lettre::{
    Address, Message, SmtpTransport, Transport,
    address::Envelope,
    message::{Mailbox, header},
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};
use std::time::{Duration, SystemTime};

/// Ports of submission with STARTTLS and with TLS from the start, and of a relay on the same host.
const SUBMISSION_PORT: u16 = 587;
const SUBMISSIONS_PORT: u16 = 465;
const RELAY_PORT: u16 = 25;

#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// `smtps://[user@]host[:port]` speaks TLS from the start. `smtp://…` insists on STARTTLS, except to the same
    /// host, where it speaks plainly.
    pub smtp: String,
    /// Of the user in `smtp`.
    pub password: Option<String>,
    /// `archiver@example.org` or `Archiver <archiver@example.org>`.
    pub from: String,
    pub to: Vec<String>,
    /// At most one mail per kind in this time.
    pub digest: Duration,
}

/// The password is nobody's business.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Options { smtp, password: _, from, to, digest } = self;
        let mut out = f.debug_struct("Options");
        out.field("smtp", smtp).field("from", from).field("to", to).field("digest", digest).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Every problem with the settings, each with its key.
    #[error("{}", problems.join("; "))]
    Settings { problems: Vec<String> },
    #[error("Cannot compose a mail")]
    Compose(#[source] lettre::error::Error),
    #[error("Cannot send a mail to {to} by {server}")]
    Send { to: String, server: String, source: SmtpError },
}

/// What went wrong with a server. It says its own causes already, so it has none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SmtpError(lettre::transport::smtp::Error);

impl MailError {
    /// Whom the mail was for, where it got so far.
    pub fn to(&self) -> Option<&str> {
        match self {
            MailError::Send { to, .. } => Some(to),
            MailError::Settings { .. } | MailError::Compose(_) => None,
        }
    }

    /// Whether the server refused this very mail or its recipient, so that trying again is no use. A refused
    /// password is not that: somebody will set it right.
    pub fn is_final(&self) -> bool {
        match self {
            MailError::Settings { .. } | MailError::Compose(_) => true,
            MailError::Send { source, .. } => {
                let about_login = |code: u16| matches!(code, 530 | 534 | 535 | 538);
                source.0.is_permanent() && !source.0.status().is_some_and(|code| about_login(code.into()))
            }
        }
    }
}

impl Options {
    /// Tells every problem at once.
    pub fn check(&self) -> Result<(), MailError> {
        Parsed::of(self).map(drop)
    }
}

/// Settings that are known to be good.
struct Parsed {
    server: Server,
    from: Mailbox,
    to: Vec<Mailbox>,
}

#[derive(Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    security: Security,
    user: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    Tls,
    StartTls,
    Plain,
}

impl Parsed {
    fn of(options: &Options) -> Result<Parsed, MailError> {
        let mut problems = Vec::new();
        let server = Server::parse(&options.smtp).map_err(|why| problems.push(format!("`mail.smtp` {why}"))).ok();
        match (server.as_ref().map(|server| server.user.is_some()), &options.password) {
            (Some(true), None) => {
                problems.push("`mail.password_file` is missing for the user in `mail.smtp`".to_owned());
            }
            (Some(false), Some(_)) => problems.push("`mail.smtp` names no user for `mail.password_file`".to_owned()),
            _ => {}
        }
        let mut mailbox = |key: &str, text: &str| {
            let bad = |_| problems.push(format!("`{key}` must be an address like ops@example.org, not {text:?}"));
            text.parse::<Mailbox>().map_err(bad).ok()
        };
        let from = mailbox("mail.from", &options.from);
        let to: Vec<Mailbox> = options.to.iter().filter_map(|to| mailbox("mail.to", to)).collect();
        if options.to.is_empty() {
            problems.push("`mail.to` must name at least one address".to_owned());
        }
        match (server, from) {
            (Some(server), Some(from)) if problems.is_empty() => Ok(Parsed { server, from, to }),
            _ => Err(MailError::Settings { problems }),
        }
    }
}

impl Server {
    fn parse(url: &str) -> Result<Server, String> {
        let form = "must be smtp://[user@]host[:port] or smtps://[user@]host[:port]";
        let (tls, rest) = match url.split_once("://") {
            Some(("smtp", rest)) => (false, rest),
            Some(("smtps", rest)) => (true, rest),
            _ => return Err(format!("{form}, not {:?}", without_user(url))),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // Users are often addresses themselves, so it is the last `@` that counts.
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        if user.is_some_and(|user| user.contains(':')) {
            return Err("must not hold a password; it belongs into `mail.password_file`".to_owned());
        }
        let user = user.map(|user| percent_decoded(user).ok_or("has a user that cannot be read")).transpose()?;
        // An IPv6 address stands in brackets, so a port is what follows a colon after them.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port > 0).ok_or(format!("has a bad port: {port:?}"))?;
                (host, Some(port))
            }
            _ => (place, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(is_host) || user.as_ref().is_some_and(String::is_empty) {
            return Err(format!("{form}, not {:?}", without_user(url)));
        }
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let (security, usual) = match (tls, is_here) {
            (true, _) => (Security::Tls, SUBMISSIONS_PORT),
            (false, true) => (Security::Plain, RELAY_PORT),
            (false, false) => (Security::StartTls, SUBMISSION_PORT),
        };
        Ok(Server { host: host.to_owned(), port: port.unwrap_or(usual), security, user })
    }
}

/// For messages: a password may stand where it does not belong.
fn without_user(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, place)| place)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// A mail on its way, with those who have not got it yet.
pub(super) struct Parcel {
    message: Vec<u8>,
    to: Vec<Address>,
    /// Whether anybody has got it.
    pub arrived: bool,
    /// Addresses that have got it, or have refused it for good.
    pub done: Vec<String>,
}

/// What a mail is composed of, beside what it says.
pub(super) struct Stamp<'a> {
    /// Names it for ever: who gets it twice can tell.
    pub id: &'a str,
    pub written: SystemTime,
    pub arrived: bool,
    pub done: &'a [String],
}

/// Where mails are posted.
pub(super) struct Post {
    parsed: Parsed,
    password: Option<String>,
    host: String,
    timeout: Duration,
}

impl Post {
    /// `host` is the name of this machine for subjects. `timeout` is that of each step of a conversation.
    pub fn new(options: &Options, host: &str, timeout: Duration) -> Result<Post, MailError> {
        let host = host.chars().filter(|c| !c.is_control()).collect();
        Ok(Post { parsed: Parsed::of(options)?, password: options.password.clone(), host, timeout })
    }

    /// The mail as it will be sent to those who are not done with it.
    pub fn compose(&self, mail: &Mail, stamp: &Stamp<'_>) -> Result<Parcel, MailError> {
        let subject = format!("[archiver {}] {}", self.host, mail.subject());
        let mut message = Message::builder()
            .from(self.parsed.from.clone())
            .subject(subject)
            .date(stamp.written)
            .message_id(Some(format!("<{}.archiver@{}>", stamp.id, self.parsed.from.email.domain())))
            .header(header::MIME_VERSION_1_0)
            .header(header::ContentType::TEXT_PLAIN);
        for to in &self.parsed.to {
            message = message.to(to.clone());
        }
        // RFC 3834: no machine should answer this.
        let mut message = message.body(format!("{}\n", mail.body())).map_err(MailError::Compose)?;
        let automatic = header::HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(header::HeaderValue::new(automatic, "auto-generated".to_owned()));
        let to = self.parsed.to.iter().map(|to| to.email.clone());
        let to = to.filter(|to| !stamp.done.contains(&to.to_string())).collect();
        let (arrived, done) = (stamp.arrived, stamp.done.to_vec());
        Ok(Parcel { message: message.formatted(), to, arrived, done })
    }

    /// One attempt for everybody who has not got it yet. Each gets a conversation of their own, so that one bad
    /// address keeps nobody else from hearing. Those who were refused for good are told in `refused` and not tried
    /// again; after an error, the rest of them can be tried later.
    pub fn deliver(&self, parcel: &mut Parcel, refused: &mut Vec<MailError>) -> Result<(), MailError> {
        let (mut later, mut failed) = (Vec::new(), Ok(()));
        let mut to = std::mem::take(&mut parcel.to).into_iter();
        for address in to.by_ref() {
            match self.hand_over(&address, &parcel.message) {
                Ok(()) => {
                    parcel.arrived = true;
                    parcel.done.push(address.to_string());
                }
                Err(err) if err.is_final() => {
                    parcel.done.push(address.to_string());
                    refused.push(err);
                }
                Err(err) => {
                    later.push(address);
                    let is_about_one = matches!(&err, MailError::Send { source, .. } if source.0.is_transient());
                    failed = Err(err);
                    if !is_about_one {
                        break;
                    }
                }
            }
        }
        later.extend(to);
        parcel.to = later;
        failed
    }

    fn hand_over(&self, to: &Address, message: &[u8]) -> Result<(), MailError> {
        let server = &self.parsed.server;
        let fail = |source| MailError::Send {
            to: to.to_string(),
            server: format!("{}:{}", server.host, server.port),
            source: SmtpError(source),
        };
        let from = Some(self.parsed.from.email.clone());
        let envelope = Envelope::new(from, vec![to.clone()]).map_err(MailError::Compose)?;
        self.transport().and_then(|transport| transport.send_raw(&envelope, message)).map_err(fail)?;
        Ok(())
    }

    /// Made for each attempt, so that new root certificates are taken up.
    fn transport(&self) -> Result<SmtpTransport, lettre::transport::smtp::Error> {
        let server = &self.parsed.server;
        let tls = match server.security {
            Security::Plain => Tls::None,
            Security::Tls => Tls::Wrapper(TlsParameters::new(server.host.clone())?),
            Security::StartTls => Tls::Required(TlsParameters::new(server.host.clone())?),
        };
        let mut builder =
            SmtpTransport::builder_dangerous(&server.host).port(server.port).tls(tls).timeout(Some(self.timeout));
        if let (Some(user), Some(password)) = (&server.user, &self.password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(builder.build())
    }
}

/// Sends one mail at once and tells how that went; for `doctor --mail`. `timeout` is that of each step of a
/// conversation.
pub fn send_now(
    options: &Options,
    host: &str,
    mail: &Mail,
    now: SystemTime,
    timeout: Duration,
) -> Result<(), MailError> {
    let post = Post::new(options, host, timeout)?;
    let stamp = Stamp { id: &crate::pipeline::random_id(), written: now, arrived: false, done: &[] };
    let mut parcel = post.compose(mail, &stamp)?;
    let mut refused = Vec::new();
    post.deliver(&mut parcel, &mut refused)?;
    refused.pop().map_or(Ok(()), Err)
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
