//! Where metrics are had: in a file for a collector of text files, and on a port of this machine.

use crate::{
    catalog::Catalog,
    config::{self, Settings, Source},
    durable,
    fate::Chain,
    report::{
        self, Standing,
        metrics::{Facts, render},
    },
    staging,
};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// How often the file is written.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// How long the catalog may take, and whoever asks.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Connections at once.
const CONNECTIONS_MAX: usize = 4;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is to be counted.
#[derive(Clone)]
pub(super) struct Counted {
    catalog: Catalog,
    live: Arc<report::Live>,
    settings: Settings,
    /// Held by the one who asks: threads that hang are not given up, and there are not many.
    asking: Arc<Semaphore>,
}

impl Counted {
    fn of(settings: &Settings, catalog: &Catalog, live: &Arc<report::Live>) -> Counted {
        Counted {
            catalog: catalog.clone(),
            live: live.clone(),
            settings: settings.clone(),
            asking: Arc::new(Semaphore::new(1)),
        }
    }

    fn text(&self) -> Result<String, String> {
        let now = Timestamp::now();
        let standing = |source: &Source| Standing::of(Some(&self.catalog), &source.name, &source.path, now);
        let standings = self.settings.sources.iter().map(standing).collect::<Result<Vec<_>, _>>();
        Ok(render(&Facts {
            live: &self.live,
            standings: &standings.map_err(|err| Chain(&err).to_string())?,
            staging_used: staging::used_below(&self.settings.staging.path),
            staging_cap: self.settings.staging.cap.0,
            now,
        }))
    }
}

/// Tells metrics while it lives.
pub(super) struct Metrics {
    options: config::Metrics,
    counted: Arc<Mutex<Counted>>,
    tasks: JoinSet<()>,
}

impl Metrics {
    pub(super) async fn tell(settings: &Settings, catalog: &Catalog, live: &Arc<report::Live>) -> Metrics {
        let counted = Arc::new(Mutex::new(Counted::of(settings, catalog, live)));
        let mut metrics = Metrics { options: config::Metrics::default(), counted, tasks: JoinSet::new() };
        metrics.renew(settings).await;
        metrics
    }

    /// With other settings. What cannot be told is no reason not to work.
    pub(super) async fn renew(&mut self, settings: &Settings) {
        lock(&self.counted).settings.clone_from(settings);
        if self.options == settings.metrics {
            return;
        }
        self.options.clone_from(&settings.metrics);
        // Until they have ended the port is not free.
        self.tasks.shutdown().await;
        if let Some(file) = self.options.textfile.clone() {
            self.tasks.spawn(write(file, self.counted.clone()));
        }
        if let Some(address) = self.options.listen {
            match TcpListener::bind(address).await {
                Ok(listener) => drop(self.tasks.spawn(serve(listener, self.counted.clone()))),
                Err(err) => tracing::warn!("No metrics on {address}: {err}"),
            }
        }
    }
}

fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text; asks catalog and staging, whose disk may hang.
async fn text(counted: &Mutex<Counted>) -> Result<String, String> {
    let counted = lock(counted).clone();
    let ask = async {
        let seat = counted.asking.clone().acquire_owned().await.map_err(|err| err.to_string())?;
        let asked = tokio::task::spawn_blocking(move || {
            let text = counted.text();
            drop(seat);
            text
        });
        asked.await.map_err(|err| err.to_string())?
    };
    let late = |_| Err("The catalog gives no answer".to_owned());
    tokio::time::timeout(ANSWER_WITHIN, ask).await.unwrap_or_else(late)
}

async fn write(file: PathBuf, counted: Arc<Mutex<Counted>>) {
    let mut due = tokio::time::interval(WRITE_EVERY);
    let mut is_told = false;
    loop {
        due.tick().await;
        let written = match text(&counted).await {
            Ok(text) => {
                let to = file.clone();
                let writing = tokio::task::spawn_blocking(move || durable::write_for_all(&to, text.as_bytes()));
                writing
                    .await
                    .map_err(|err| err.to_string())
                    .and_then(|done| done.map_err(|err| Chain(&err).to_string()))
            }
            Err(what) => Err(what),
        };
        if let Err(what) = &written
            && !is_told
        {
            tracing::warn!("No metrics in {file:?}: {what}");
        }
        is_told = written.is_err();
    }
}

async fn serve(listener: TcpListener, counted: Arc<Mutex<Counted>>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, as a rule; others will be closed.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let counted = counted.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, counted.clone()));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(ANSWER_WITHIN).keep_alive(false);
            // Whoever asked may have gone.
            let serving = server.serve_connection(TokioIo::new(stream), answer);
            let _ = tokio::time::timeout(3 * ANSWER_WITHIN, serving).await;
            drop(seat);
        });
    }
}

async fn answer(request: Request<Incoming>, counted: Arc<Mutex<Counted>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match text(&counted).await {
            Ok(text) => (StatusCode::OK, CONTENT_TYPE, text),
            Err(what) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", what + "\n"),
        },
        _ => (StatusCode::NOT_FOUND, "text/plain", "Metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    Ok(response)
}
