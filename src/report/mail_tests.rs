use super::{
    super::{
        letter::MailKind,
        stub::{Answer, Event, Stub},
    },
    *,
};
use crate::fate::Trouble;

fn options(smtp: &str, password: Option<&str>, from: &str, to: &[&str]) -> Options {
    Options {
        smtp: smtp.into(),
        password: password.map(str::to_owned),
        from: from.into(),
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        digest: Duration::ZERO,
    }
}

#[test]
fn servers_are_read_from_urls() {
    let table = [
        ("smtp://mail.example.org", "mail.example.org", 587, Security::StartTls, None),
        ("smtp://mail.example.org/", "mail.example.org", 587, Security::StartTls, None),
        ("smtps://backup@mail.example.org:1465", "mail.example.org", 1465, Security::Tls, Some("backup")),
        ("smtps://a@b.org@mail.example.org", "mail.example.org", 465, Security::Tls, Some("a@b.org")),
        ("smtp://a%40b.org@mail", "mail", 587, Security::StartTls, Some("a@b.org")),
        ("smtp://localhost", "localhost", 25, Security::Plain, None),
        ("smtp://127.0.0.2:2525", "127.0.0.2", 2525, Security::Plain, None),
        ("smtp://[::1]", "::1", 25, Security::Plain, None),
        ("smtps://[2001:db8::1]:465", "2001:db8::1", 465, Security::Tls, None),
        ("smtps://localhost", "localhost", 465, Security::Tls, None),
        ("smtp://localhost.example.org", "localhost.example.org", 587, Security::StartTls, None),
    ];
    for (url, host, port, security, user) in table {
        let server = Server { host: host.into(), port, security, user: user.map(str::to_owned) };
        assert_eq!(Server::parse(url), Ok(server), "{url}");
    }
    for url in [
        "",
        "mail.example.org",
        "http://mail",
        "smtp://",
        "smtp://@mail",
        "smtp://u@",
        "smtp://mail:0",
        "smtp://mail:x",
        "smtp://mail:99999",
        "smtp://mail?tls=none",
        "smtp://mail/path",
        "smtp://u:secret@mail",
        "smtp://ma il",
        "smtp://u%0a@mail",
        "smtp://u%4@mail",
        "smtp://mail\r\nRSET",
    ] {
        let err = Server::parse(url).unwrap_err();
        assert!(!err.contains("secret") && !err.contains('\n'), "{url:?}: {err}");
    }
}

#[test]
fn every_bad_setting_is_told_at_once_with_its_key() {
    let good = options("smtps://u@mail", Some("p"), "Archiver <a@b.org>", &["ops@b.org", "Ops <ops@c.org>"]);
    good.check().unwrap();
    options("smtp://localhost", None, "a@b", &["root@localhost"]).check().unwrap();
    let table = [
        (options("x", None, "a b", &[]), vec!["mail.smtp", "mail.from", "mail.to"]),
        (options("smtps://u@mail", None, "a@b.org", &["x\r\nBcc: y@z.org"]), vec!["mail.password_file", "mail.to"]),
        (options("smtps://mail", Some("p"), "a@b.org", &["o@b.org", "@"]), vec!["mail.smtp", "mail.to"]),
    ];
    for (options, keys) in table {
        let err = options.check().unwrap_err().to_string();
        assert_eq!(err.split("; ").count(), keys.len(), "{err}");
        assert!(keys.iter().all(|key| err.contains(&format!("`{key}`"))), "{err}");
        assert!(!err.contains(char::is_control), "{err:?}");
    }
}

#[test]
fn a_password_is_not_printed() {
    assert!(!format!("{:?}", options("smtps://u@m", Some("hunter2"), "a@b.org", &[])).contains("hunter2"));
}

/// Settings for a server that runs here.
fn here(stub: &Stub, user: Option<&str>) -> Options {
    let user_at = user.map(|user| format!("{user}@")).unwrap_or_default();
    options(
        &format!("smtp://{user_at}127.0.0.1:{}", stub.port),
        user.map(|_| "p\u{e4}ss"),
        "a@b.org",
        &["one@b.org", "two@b.org"],
    )
}

fn post(options: &Options) -> Post {
    Post::new(options, "nas1\r\nX: y", Duration::from_secs(3600)).unwrap()
}

fn parcel(post: &Post, subject: &str) -> Parcel {
    let mail = Mail::new(MailKind::Trouble(Trouble::Vault), subject, "It burns\n.\nIn M\u{fc}nchen");
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    post.compose(&mail, &Stamp { id: "c0ffee", written, arrived: false, done: &[] }).unwrap()
}

#[test]
fn a_mail_arrives_whole_at_everybody() {
    let stub = Stub::start(|_, _| Answer::Take);
    let post = post(&here(&stub, None));
    let mut mail = parcel(&post, "vault: Cannot reach \r\nBcc: evil@x.org");
    post.deliver(&mut mail, &mut Vec::new()).unwrap();
    for to in ["one@b.org", "two@b.org"] {
        let got = stub.mail();
        assert_eq!((&*got.from, &*got.to), ("a@b.org", to));
        let text = got.data.replace("\r\n", "\n");
        assert!(text.is_ascii() && !text.contains('\r'));
        let (headers, body) = text.split_once("\n\n").unwrap();
        let unfolded = headers.replace("\n ", " ");
        for header in [
            "From: a@b.org",
            "To: one@b.org, two@b.org",
            r"Subject: [archiver nas1X: y] vault: Cannot reach \r\nBcc: evil@x.org",
            "Date: Fri, 02 Jan 1970 00:00:00 +0000",
            "Message-ID: <c0ffee.archiver@b.org>",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
        ] {
            assert!(unfolded.lines().any(|line| line == header), "{header} is not in {unfolded}");
        }
        assert!(!unfolded.lines().any(|line| line.starts_with("Bcc") || line.starts_with("X:")));
        assert_eq!(body.trim_end(), "It burns\n.\nIn M=C3=BCnchen");
    }
}

#[test]
fn one_bad_address_keeps_nobody_else_from_hearing() {
    for (answer, is_final) in [(Answer::Say(550), true), (Answer::Say(451), false)] {
        let stub = Stub::start(move |_, to| if to == "one@b.org" { answer } else { Answer::Take });
        let post = post(&here(&stub, None));
        let (mut mail, mut refused) = (parcel(&post, "x"), Vec::new());
        assert_eq!(post.deliver(&mut mail, &mut refused).is_ok(), is_final);
        assert_eq!(stub.mail().to, "two@b.org");
        assert_eq!((mail.arrived, refused.len(), mail.to.len()), (true, usize::from(is_final), usize::from(!is_final)));
    }
}

#[test]
fn a_wrong_password_can_be_set_right() {
    let stub = Stub::start(|_, _| Answer::Take);
    let post = post(&here(&stub, Some("backup")));
    let (mut mail, mut refused) = (parcel(&post, "x"), Vec::new());
    // The stub takes no password but its own.
    let err = post.deliver(&mut mail, &mut refused).unwrap_err();
    assert!(!err.is_final() && refused.is_empty() && mail.to.len() == 2, "{err:?}");
    assert_eq!(stub.event(), Event::Login("\0backup\0p\u{e4}ss".into()));
}

#[test]
fn nothing_is_said_to_a_server_that_does_not_encrypt() {
    for security in [Security::StartTls, Security::Tls] {
        let stub = Stub::start(|_, _| Answer::Take);
        let mut post = post(&here(&stub, None));
        post.parsed.server.security = security;
        let (mut mail, mut refused) = (parcel(&post, "x"), Vec::new());
        let err = post.deliver(&mut mail, &mut refused).unwrap_err();
        assert!(!err.is_final() && refused.is_empty(), "{err:?}");
        assert_eq!(stub.rest(), []);
    }
}
