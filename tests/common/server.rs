//! Real S3 servers that others wrote, each started by a test that needs it and ended with it.

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use aws_smithy_http_client::Builder;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;

pub struct Server {
    script: &'static str,
    dir: TempDir,
    pub endpoint: String,
    pub access: String,
    pub secret: String,
}

impl Server {
    /// Ceph's object gateway.
    pub fn ceph() -> Server {
        Server::start(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/ceph.sh"))
    }

    /// LocalStack, which has what Ceph 16 lacks.
    pub fn second() -> Server {
        Server::start(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/second.sh"))
    }

    fn start(script: &'static str) -> Server {
        let dir = tempfile::Builder::new().prefix("archiver-server.").tempdir_in("/var/tmp").unwrap();
        let command = |args: &[&str]| Command::new(script).args(args).stdin(Stdio::null()).output().unwrap();
        let place = dir.path().to_str().unwrap().to_owned();
        // A directory that it has not made is not taken.
        fs::remove_dir(dir.path()).unwrap();
        let installed = command(&["install"]);
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let started = command(&["start", &place]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let text = String::from_utf8(started.stdout).unwrap();
        let told: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        Server {
            script,
            dir,
            endpoint: told["S3_ENDPOINT"].to_owned(),
            access: told["S3_ACCESS_KEY"].to_owned(),
            secret: told["S3_SECRET_KEY"].to_owned(),
        }
    }

    /// What else the script can do: `kill-rgw`, `start-rgw`.
    pub fn order(&self, what: &str) {
        let done = Command::new(self.script).arg(what).arg(self.dir.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// A file of profiles with the keys to it.
    pub fn write_keys(&self, file: &Path) {
        let (access, secret) = (&self.access, &self.secret);
        fs::write(file, format!("[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"))
            .unwrap();
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub fn client(&self) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .http_client(Builder::new().build_http())
            .credentials_provider(Credentials::new(&self.access, &self.secret, None, None, "test"));
        Client::from_conf(config.build())
    }

    pub async fn make_bucket(&self, name: &str) {
        self.client().create_bucket().bucket(name).send().await.unwrap();
    }

    /// Fetches everything below a prefix into a directory. Gives the storage class of each key.
    pub async fn fetch(&self, bucket: &str, prefix: &str, dir: &Path) -> BTreeMap<String, String> {
        let client = self.client();
        let mut pages = client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut classes = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for object in page.unwrap().contents() {
                let name = object.key().unwrap();
                let key = name.strip_prefix(prefix).unwrap().trim_start_matches('/');
                let bytes = client.get_object().bucket(bucket).key(name).send().await.unwrap().body.collect().await;
                let path = dir.join(key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes.unwrap().to_vec()).unwrap();
                classes.insert(
                    key.to_owned(),
                    object.storage_class().map_or("STANDARD", |class| class.as_str()).to_owned(),
                );
            }
        }
        classes
    }

    /// Uploads in parts that nobody has completed.
    pub async fn uploads(&self, bucket: &str) -> usize {
        self.client().list_multipart_uploads().bucket(bucket).send().await.unwrap().uploads().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(self.script).arg("stop").arg(self.dir.path()).output();
    }
}
