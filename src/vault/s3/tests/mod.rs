use super::*;
use crate::vault::{
    VaultError,
    checksum::crc64,
    conformance::{Subject, payload},
};
use archiver_s3_double::{self as double, Act, Double, Persona, Rule};
use std::{collections::BTreeMap, sync::Arc};

const BUCKET: &str = "backup";
const PART: usize = 64 << 10;

/// A server, and a file with the keys to it.
struct Server {
    double: Double,
    dir: tempfile::TempDir,
}

impl Server {
    fn new(options: double::Options) -> Server {
        let server = Server {
            double: Double::spawn(options.buckets(&[BUCKET]).small_parts()),
            dir: tempfile::tempdir().unwrap(),
        };
        server.write_keys(double::ACCESS_KEY, double::SECRET_KEY);
        server
    }

    fn write_keys(&self, access: &str, secret: &str) {
        let text = format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n");
        std::fs::write(self.dir.path().join("credentials"), text).unwrap();
    }

    fn options(&self) -> Options {
        Options {
            bucket: BUCKET.into(),
            prefix: "lab/nas".into(),
            region: None,
            endpoint_url: Some(self.double.endpoint()),
            path_style: true,
            identity: Identity::File { path: self.dir.path().join("credentials"), profile: None },
            patience: Patience { silence: Duration::from_secs(2), ..Patience::default() },
        }
    }

    async fn vault(&self) -> S3Vault {
        S3Vault::open(self.options()).await
    }
}

fn server() -> Server {
    Server::new(double::Options::default())
}

#[expect(clippy::disallowed_methods, reason = "the suite opens its subject from inside a runtime")]
fn subject_of(options: double::Options, keeps_class: bool) -> Subject {
    let server = Arc::new(Server::new(options));
    // The longest keys leave no room for a prefix.
    let options = Options { prefix: String::new(), ..server.options() };
    Subject {
        open: Box::new(move || {
            let options = options.clone();
            tokio::task::block_in_place(|| {
                Arc::new(tokio::runtime::Handle::current().block_on(S3Vault::open(options))) as Arc<dyn Vault>
            })
        }),
        part_size: PART,
        keeps_class,
        guard: Box::new(server),
    }
}

mod conforms {
    crate::vault_conformance!(super::subject_of(super::double::Options::default(), true));
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn spec(bytes: &[u8], class: &str) -> ObjectSpec {
    ObjectSpec {
        size: bytes.len() as u64,
        crc64: crc64(bytes),
        part_size: PART as u64,
        storage_class: class.into(),
        metadata: BTreeMap::from([("source".to_owned(), "data".to_owned())]),
    }
}

async fn put(vault: &S3Vault, name: &str, bytes: &[u8], class: &str) -> VaultResult<()> {
    vault.put(&key(name), &spec(bytes, class), payload(bytes)).await
}

mod answers;
mod classes;
mod removal;
