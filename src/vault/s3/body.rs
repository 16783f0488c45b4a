//! A payload as the body of a request, watched while it is sent.
//!
//! A connection can die without a word, and the system notices after a quarter of an hour or never. So it is measured
//! how long nobody has asked for the next bytes. What may take how long follows from the slowest rate that is worth
//! waiting for: a slow line is not a dead one.

use super::Patience;
use crate::vault::payload::{Payload, PayloadError, PayloadReader};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// What systems on the way may have taken and not yet passed on: the largest buffers of Linux by default, 4 MiB to send
/// and 6 MiB to receive (`tcp_wmem`, `tcp_rmem`), and some. How fast bytes vanish into them says nothing of the line.
const BUFFERS: u64 = 12 << 20;
/// Linux wakes who waits for room in a full buffer only once a third of it is free, so on a slow line nothing is taken
/// for long, and then much at once.
const ROOM: u64 = BUFFERS / 3;
/// A line may become slower by this factor before it is taken for dead.
const SLOWER: f64 = 8.0;
/// A server that never answers is asked again after this long, unless the line is known to be so slow.
const DOUBTED_MAX: Duration = Duration::from_secs(3_600);
/// What is shorter says more of the way to the server and back than of how much gets through.
const TELLING: u64 = 1 << 20;

/// Bytes per second that a line is known to let through.
#[derive(Clone, Debug, Default)]
pub(super) struct LineRate(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Of payloads that were answered; 0 before any was.
    rate: f64,
    /// Stalls since the last answer.
    doubts: i32,
}

impl LineRate {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A payload has arrived, as its answer says. A slower one counts at once, a faster one bit by bit: small ones pass
    /// faster than large ones.
    fn learn(&self, len: u64, took: Duration) {
        if len >= TELLING {
            let mut known = self.known();
            let rate = len as f64 / took.as_secs_f64().max(0.001);
            let faster = known.rate > 0.0 && rate > known.rate;
            known.rate = if faster { known.rate + (rate - known.rate) / 4.0 } else { rate };
            known.doubts = 0;
        }
    }

    /// A stall may have been a line that became slow, or something on the way that takes all and passes it on later:
    /// the next one is waited for longer. Many that stalled together are one.
    fn doubt(&self, doubts: i32) {
        let mut known = self.known();
        known.doubts = known.doubts.max(doubts + 1);
    }

    /// How long so many bytes may be under way, where such a rate seems to be seen now.
    /// What began before others stalled is waited for no longer for that.
    fn may_take(&self, bytes: u64, seen: f64, doubts: i32, slowest: u64) -> Duration {
        let known = self.known();
        let rate = if known.rate > 0.0 { known.rate / SLOWER } else { seen };
        let expected = bytes as f64 / rate.max(slowest as f64);
        let doubted = expected * SLOWER.powi(known.doubts.min(doubts));
        Duration::from_secs_f64(doubted.min(expected.max(DOUBTED_MAX.as_secs_f64())))
    }
}

/// Who is waited for.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// A connection, and credentials to sign with: nothing was asked for yet.
    Start,
    /// Ourselves: the connection, the disk, the bandwidth.
    Bytes,
    /// The line: so many bytes were handed over last.
    Line(u64),
    /// The server: everything was handed over.
    Answer,
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    since: Instant,
    sent: u64,
    /// The time that the line took for all that was sent.
    on_line: Duration,
}

/// How far a body has come.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    state: Arc<Mutex<State>>,
    line: LineRate,
    /// Of the line, when this began.
    doubts: i32,
}

impl Flow {
    fn new(line: LineRate) -> Flow {
        let state = State { waiting: Waiting::Start, since: Instant::now(), sent: 0, on_line: Duration::ZERO };
        let doubts = line.known().doubts;
        Flow { state: Arc::new(Mutex::new(state)), line, doubts }
    }

    /// The server has answered, so everything got through.
    pub(super) fn answered(&self) {
        let state = self.state();
        if let Waiting::Answer = state.waiting {
            self.line.learn(state.sent, state.on_line + state.since.elapsed());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, waiting: Waiting) {
        let mut state = self.state();
        let now = Instant::now();
        if let Waiting::Line(len) = state.waiting {
            let took = now.duration_since(state.since);
            state.on_line += took;
            state.sent += len;
        }
        state.waiting = waiting;
        state.since = now;
    }

    /// How long to wait from now on before it is a stall; zero when it is one.
    fn left(&self, patience: &Patience) -> Duration {
        let state = self.state();
        let seen = state.sent.saturating_sub(BUFFERS) as f64 / state.on_line.as_secs_f64().max(0.001);
        let on_line = |bytes| patience.silence + self.line.may_take(bytes, seen, self.doubts, patience.slowest);
        let may_take = match state.waiting {
            Waiting::Start => patience.connect + 2 * patience.silence,
            Waiting::Bytes => return patience.silence,
            Waiting::Line(len) => on_line(len + ROOM),
            Waiting::Answer => on_line(state.sent),
        };
        may_take.saturating_sub(state.since.elapsed())
    }

    /// Returns when the line or the server has been silent for too long.
    pub(super) async fn stalled(&self, patience: &Patience) -> &'static str {
        loop {
            let left = self.left(patience);
            if left.is_zero() {
                let what = match self.state().waiting {
                    Waiting::Start => return "there is no connection",
                    Waiting::Answer => "the server took everything and does not answer",
                    Waiting::Bytes | Waiting::Line(_) => "nothing gets through any more",
                };
                self.line.doubt(self.doubts);
                return what;
            }
            sleep(left.min(Duration::from_secs(5)).max(Duration::from_millis(10))).await;
        }
    }
}

type Next = Pin<Box<dyn Future<Output = (PayloadReader, Result<Option<Bytes>, PayloadError>)> + Send>>;

struct Body {
    next: Option<Next>,
    left: u64,
    flow: Flow,
}

/// The payload as a body, and how far it has come. A body is sent once.
pub(super) fn body(payload: Payload, line: LineRate) -> (ByteStream, Flow) {
    let flow = Flow::new(line);
    let left = payload.len();
    if left == 0 {
        // Nothing asks a body of 0 bytes for its bytes.
        flow.turn(Waiting::Answer);
        return (ByteStream::from_static(b""), flow);
    }
    let body = Body { next: Some(advance(payload.reader())), left, flow: flow.clone() };
    // The type of the client wants to be shared; only one ever polls it.
    (ByteStream::new(SdkBody::from_body_1_x(Single(Mutex::new(body)))), flow)
}

fn advance(mut reader: PayloadReader) -> Next {
    Box::pin(async move {
        let next = reader.next().await;
        (reader, next)
    })
}

struct Single(Mutex<Body>);

impl http_body::Body for Single {
    type Data = Bytes;
    type Error = PayloadError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, PayloadError>>> {
        let body = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(next) = &mut body.next else { return Poll::Ready(None) };
        if !matches!(body.flow.state().waiting, Waiting::Bytes) {
            body.flow.turn(Waiting::Bytes);
        }
        let (reader, bytes) = ready!(next.as_mut().poll(context));
        body.next = None;
        Poll::Ready(match bytes {
            Ok(Some(bytes)) => {
                let len = bytes.len() as u64;
                body.left -= len;
                body.flow.turn(Waiting::Line(len));
                if body.left == 0 {
                    body.flow.turn(Waiting::Answer);
                } else {
                    body.next = Some(advance(reader));
                }
                Some(Ok(Frame::data(bytes)))
            }
            Ok(None) => None,
            Err(err) => Some(Err(err)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.lock().unwrap_or_else(PoisonError::into_inner).left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::checksum::crc64;
    use http_body::Body as _;
    use std::future::poll_fn;

    const PATIENCE: Patience =
        Patience { connect: Duration::from_secs(1), silence: Duration::from_secs(60), slowest: 1_000 };

    #[tokio::test(start_paused = true)]
    async fn a_line_that_takes_nothing_is_a_stall_and_a_slow_one_is_none() {
        let flow = Flow::new(LineRate::default());
        let start = Instant::now();
        for _ in 0..100 {
            flow.turn(Waiting::Line(128_000));
            // As long as a third of the largest buffer takes at the slowest rate.
            tokio::time::advance(Duration::from_secs(4_200)).await;
            assert!(!flow.left(&PATIENCE).is_zero());
        }
        assert!(start.elapsed() > Duration::from_secs(400_000));
        flow.turn(Waiting::Line(128_000));
        let start = Instant::now();
        flow.stalled(&PATIENCE).await;
        assert_eq!(start.elapsed().as_secs(), 60 + (128_000 + ROOM) / 1_000);
    }

    /// What lies between us and the server may take a part as fast as it comes, and pass it on for minutes.
    #[tokio::test(start_paused = true)]
    async fn what_is_passed_on_later_gets_through_in_the_end() {
        let line = LineRate::default();
        let passed_on = Duration::from_secs(600);
        for tries in 0.. {
            let flow = Flow::new(line.clone());
            for _ in 0..64 {
                flow.turn(Waiting::Line(1 << 20));
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            flow.turn(Waiting::Answer);
            if tokio::time::timeout(passed_on, flow.stalled(&PATIENCE)).await.is_err() {
                flow.answered();
                assert!(tries <= 5, "{tries}");
                break;
            }
        }
        assert_eq!(line.known().doubts, 0);
        assert!((60_000.0..120_000.0).contains(&line.known().rate), "{line:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_hands_out_connections_or_keys_may_hang() {
        let flow = Flow::new(LineRate::default());
        let start = Instant::now();
        assert_eq!(flow.stalled(&PATIENCE).await, "there is no connection");
        assert_eq!(start.elapsed().as_secs(), 121);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_ourselves_is_no_stall() {
        let flow = Flow::new(LineRate::default());
        flow.turn(Waiting::Bytes);
        let waited = tokio::time::timeout(Duration::from_secs(1_000_000), flow.stalled(&PATIENCE)).await;
        assert!(waited.is_err(), "bandwidth may be so low");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_as_long_as_what_is_still_on_its_way() {
        const MIB: u64 = 1 << 20;
        for (parts, rate, expected) in [
            // Most of it has passed all buffers, which tells the rate.
            (64, 100_000_000, 60),
            (64, 8_000, 60 + 64 * MIB / (8_000 * 52 / 64)),
            (64, 10, 60 + 64 * MIB / 1_000),
            // All of it may still lie in them, however fast it vanished.
            (8, 100_000_000, 60 + 8 * MIB / 1_000),
        ] {
            let flow = Flow::new(LineRate::default());
            for _ in 0..parts {
                flow.turn(Waiting::Line(1 << 20));
                tokio::time::advance(Duration::from_secs_f64(f64::from(1 << 20) / f64::from(rate))).await;
            }
            flow.turn(Waiting::Answer);
            let start = Instant::now();
            flow.stalled(&PATIENCE).await;
            assert!(start.elapsed().as_secs().abs_diff(expected) <= 1, "{rate}: {:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_got_through_before_tells_how_long_to_wait() {
        let line = LineRate::default();
        line.learn(100_000, Duration::from_secs(1));
        assert_eq!(line.known().rate, 0.0, "too short to tell");
        line.learn(8 << 20, Duration::from_secs(1));
        let mut flow = Flow::new(line.clone());
        flow.turn(Waiting::Line(8 << 20));
        flow.turn(Waiting::Answer);
        let start = Instant::now();
        flow.stalled(&PATIENCE).await;
        assert_eq!(start.elapsed().as_secs(), 68, "eight times slower than before is not dead yet");
        flow.turn(Waiting::Answer);
        flow.stalled(&PATIENCE).await;
        for took in [60 + 64, 60 + 512, 60 + 3_600, 60 + 3_600] {
            assert_eq!(Flow::new(line.clone()).doubts, flow.doubts + 1, "many at once are one");
            flow = Flow::new(line.clone());
            flow.turn(Waiting::Line(8 << 20));
            let start = Instant::now();
            flow.turn(Waiting::Answer);
            flow.stalled(&PATIENCE).await;
            assert_eq!(start.elapsed().as_secs(), took, "a line that became slow is found out");
            flow.stalled(&PATIENCE).await;
        }
        line.learn(8 << 20, Duration::from_millis(500));
        assert_eq!((line.known().rate / 1e6).round(), 10.0, "a faster one counts bit by bit");
        line.learn(8 << 20, Duration::from_secs(8));
        assert_eq!((line.known().rate / 1e6).round(), 1.0, "a slower one counts at once");
    }

    #[tokio::test]
    async fn the_body_is_the_payload() {
        let bytes = vec![7; 1_000_000];
        let (stream, flow) = body(Payload::of_bytes(bytes.clone(), crc64(&bytes)), LineRate::default());
        let mut body = stream.into_inner();
        assert_eq!(body.size_hint().exact(), Some(1_000_000));
        let mut got = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            got.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert!(got == bytes && body.is_end_stream());
        assert!(matches!(flow.state().waiting, Waiting::Answer));
        assert_eq!(flow.state().sent, 1_000_000);
    }
}
