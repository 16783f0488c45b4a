//! Bodies on their way through: counted, kept for what the server left unread, cut short, changed.

use crate::{log::Counter, state::lock};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use s3s::StdError;
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

/// The body of an answer.
pub(crate) type Answer = UnsyncBoxBody<Bytes, StdError>;

/// Where the rest of a request's body is put when nobody reads it.
pub(crate) type Rest = Arc<Mutex<Option<Incoming>>>;

/// The body of a request, counted while it is read.
pub(crate) struct Counted {
    inner: Option<Incoming>,
    counter: Counter,
    rest: Rest,
}

impl Counted {
    pub fn new(inner: Incoming, counter: Counter) -> (Counted, Rest) {
        let rest = Rest::default();
        (Counted { inner: Some(inner), counter, rest: Arc::clone(&rest) }, rest)
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            this.counter.add(bytes.len());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *lock(&self.rest) = self.inner.take();
    }
}

/// Reads what is left, so that the client gets to see the answer: a server that closes while the client still sends
/// makes it see a broken connection instead. Gives up when nothing comes for half a minute.
pub(crate) async fn drain(rest: &Rest, counter: &Counter) {
    let taken = lock(rest).take();
    let Some(mut body) = taken else { return };
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_secs(30), body.frame()).await {
        if let Some(bytes) = frame.data_ref() {
            counter.add(bytes.len());
        }
    }
}

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Answer {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Ends after so many bytes with an error, on which the connection is closed. The pause lets what was sent before leave.
pub(crate) fn truncated(body: Answer, after: u64) -> Answer {
    let left = usize::try_from(after).unwrap_or(usize::MAX);
    let cut = stream::unfold((body, left), |(mut body, left)| async move {
        let frame = if left == 0 { None } else { body.frame().await };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut bytes) => {
                    bytes.truncate(left);
                    let left = left - bytes.len();
                    Some((Ok(Frame::data(bytes)), (body, left)))
                }
                Err(frame) => Some((Ok(frame), (body, left))),
            },
            _ => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Err(StdError::from("cut off as told")), (body, 0)))
            }
        }
    });
    // What follows the error is never asked for.
    StreamBody::new(cut.boxed()).boxed_unsync()
}

/// With one byte flipped.
pub(crate) fn flipped(body: Answer, at: u64) -> Answer {
    let mut passed = 0;
    body.map_frame(move |frame| match frame.into_data() {
        Ok(bytes) => {
            let start = passed;
            passed += bytes.len() as u64;
            if !(start..passed).contains(&at) {
                return Frame::data(bytes);
            }
            let mut bytes = BytesMut::from(&bytes[..]);
            bytes[(at - start) as usize] ^= 0xff;
            Frame::data(bytes.freeze())
        }
        Err(frame) => frame,
    })
    .boxed_unsync()
}
