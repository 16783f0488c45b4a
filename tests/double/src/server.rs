//! A running server, and all that a test may do to it and ask of it.

use crate::{
    admin,
    clock::Clock,
    front::Front,
    keys::Auth,
    log::Entry,
    ops::Operations,
    options::{Key, Options, Persona, Thaw},
    script::Rule,
    state::{Object, Shared, Thawed, lock},
    view::{self, ObjectView, UploadView},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use s3s::{
    config::{S3Config, StaticConfigProvider},
    service::S3ServiceBuilder,
};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

/// How long the threads of a server may take to end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A server that runs until it is dropped, on threads of its own: neither a test's paused clock nor its blocked thread
/// stops it.
pub struct Double {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Double {
    /// Starts a server.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(options: Options) -> Double {
        Double::spawn(options)
    }

    /// Starts a server, from a test that is not async.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn spawn(options: Options) -> Double {
        Double::try_spawn(options).expect("the double starts")
    }

    /// Starts a server, or says why it cannot.
    pub fn try_spawn(options: Options) -> io::Result<Double> {
        let shared = Arc::new(Shared::new(&options)?);
        let mut builder = S3ServiceBuilder::new(Operations(Arc::clone(&shared)));
        builder.set_auth(Auth(Arc::clone(&shared.keys)));
        let mut config = S3Config::default();
        // The double judges the age of signatures by its own clock.
        config.presigned_url_max_skew_time_secs = u32::MAX;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        let front = Front { shared: Arc::clone(&shared), service: builder.build() };

        let listener = std::net::TcpListener::bind(&options.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-double")
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(serve(listener, front));
        Ok(Double { shared, address, runtime: Some(runtime) })
    }

    /// Where it listens, as a URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its clock. See [`Clock::advance`] to let thaws end.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }
}

/// What is in it.
impl Double {
    /// The current objects of a bucket, by key; none if there is no such bucket.
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, ObjectView> {
        lock(&self.shared.buckets).get(bucket).map(view::objects).unwrap_or_default()
    }

    /// An object.
    pub fn object(&self, bucket: &str, key: &str) -> Option<ObjectView> {
        lock(&self.shared.buckets).get(bucket)?.current(key).map(ObjectView::of)
    }

    /// The bytes of an object, thawed or not.
    pub fn object_bytes(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.object(bucket, key).map(|object| object.bytes())
    }

    /// The uploads of a bucket that are under way, by key.
    pub fn uploads(&self, bucket: &str) -> Vec<UploadView> {
        self.shared.bucket(bucket, |bucket| Ok(view::uploads(bucket))).unwrap_or_default()
    }

    /// Takes an object away behind everyone's back. Whether there was one.
    pub fn lose_object(&self, bucket: &str, key: &str) -> bool {
        lock(&self.shared.buckets).get_mut(bucket).is_some_and(|bucket| bucket.objects.remove(key).is_some())
    }

    /// Takes an upload away, as a lifecycle rule would. Whether there was one.
    pub fn lose_upload(&self, bucket: &str, id: &str) -> bool {
        lock(&self.shared.buckets).get_mut(bucket).is_some_and(|bucket| bucket.uploads.remove(id).is_some())
    }

    /// Ends the thaw of an object at once. Whether there is such an object.
    pub fn thaw_now(&self, bucket: &str, key: &str, days: i32) -> bool {
        let now = self.shared.clock.now();
        self.change(bucket, key, |object| object.thawed = Some(Thawed { ready: now, days }))
    }

    /// Lets an object be frozen again, whatever was thawed. Whether there is such an object.
    pub fn freeze(&self, bucket: &str, key: &str) -> bool {
        self.change(bucket, key, |object| object.thawed = None)
    }

    fn change(&self, bucket: &str, key: &str, change: impl FnOnce(&mut Object)) -> bool {
        let changed = self.shared.object(bucket, key, None, |object| {
            change(object);
            Ok(())
        });
        changed.is_ok()
    }
}

/// What was asked of it.
impl Double {
    /// All requests, in the order in which they came.
    pub fn log(&self) -> Vec<Entry> {
        self.shared.log.entries()
    }

    /// The requests for this operation.
    pub fn log_of(&self, operation: &str) -> Vec<Entry> {
        self.log().into_iter().filter(|entry| entry.operation == operation).collect()
    }

    /// How many requests there were for this operation.
    pub fn requests(&self, operation: &str) -> u64 {
        self.counts().get(operation).copied().unwrap_or(0)
    }

    /// How many requests there were for each operation.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.shared.log.counts()
    }

    /// Bytes of all bodies that came.
    pub fn bytes_received(&self) -> u64 {
        self.shared.log.received()
    }
}

/// What it does.
impl Double {
    /// Adds a rule.
    pub fn script(&self, rule: Rule) {
        lock(&self.shared.script).add(rule);
    }

    /// Takes all rules away. Whoever hangs goes on hanging.
    pub fn clear_script(&self) {
        lock(&self.shared.script).clear();
    }

    /// Puts rules in JSON in the place of all others; one, a list, or one per line. Returns how many, or what is wrong,
    /// and then leaves the others as they are.
    pub fn replace_script(&self, json: &str) -> Result<usize, String> {
        let rules = admin::rules(json)?;
        let count = rules.len();
        let mut script = lock(&self.shared.script);
        script.clear();
        rules.into_iter().for_each(|rule| script.add(rule));
        Ok(count)
    }

    /// How often the rules of this name had their way.
    pub fn fired(&self, name: &str) -> u64 {
        lock(&self.shared.script).fired(name)
    }

    /// Sets or takes down a flag that rules look at.
    pub fn set_flag(&self, flag: &str, up: bool) {
        lock(&self.shared.script).set_flag(flag, up);
    }

    /// Changes what it lacks.
    pub fn set_persona(&self, persona: Persona) {
        *lock(&self.shared.persona) = persona;
    }

    /// Takes the permission for an operation away.
    pub fn deny(&self, operation: &str) {
        lock(&self.shared.persona).denied.insert(operation.to_owned());
    }

    /// Gives the permission back.
    pub fn allow(&self, operation: &str) {
        lock(&self.shared.persona).denied.remove(operation);
    }

    /// Changes how long thaws take that are asked for from now on.
    pub fn set_thaw(&self, thaw: Thaw) {
        *lock(&self.shared.thaw) = thaw;
    }

    /// Changes the size that all parts but the last must have.
    pub fn set_min_part_size(&self, bytes: u64) {
        self.shared.min_part_size.store(bytes, Ordering::Relaxed);
    }

    /// Adds a key that may sign, or one that was revoked or expired again.
    pub fn add_key(&self, key: Key) {
        lock(&self.shared.keys).add(key);
    }

    /// Forgets an access key: InvalidAccessKeyId from now on.
    pub fn revoke_key(&self, access: &str) {
        lock(&self.shared.keys).revoke(access);
    }

    /// Lets an access key or a session token expire: ExpiredToken from now on.
    pub fn expire_token(&self, access_or_token: &str) {
        lock(&self.shared.keys).expire(access_or_token);
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // A runtime must not be waited for on a thread of another runtime, where async tests drop this.
        let stopping = std::thread::spawn(move || runtime.shutdown_timeout(STOP_MAX));
        let _ = stopping.join();
    }
}

/// Connections end with the task that accepts them.
async fn serve(listener: TcpListener, front: Front) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of descriptors, most likely: some will be closed.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                // Answers are written at once; waiting to fill a segment would only slow tests down.
                let _ = stream.set_nodelay(true);
                let front = front.clone();
                let service = service_fn(move |request| front.clone().answer(request));
                // Connections may idle for as long as a test likes.
                let http = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
                connections.spawn(http);
            }
            Some(_) = connections.join_next() => (),
        }
    }
}
