//! Server-sent events of both roles: a bounded number of followers, a bounded number of events for each.

use std::convert::Infallible;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::envelope::Problem;

/// Followers at once. They must not take all places of clients that only ask.
const MOST: usize = 64;
/// Events on their way to one follower.
const QUEUE: usize = 64;

/// Places for followers.
#[derive(Debug, Clone)]
pub struct Followers(Arc<Semaphore>);

impl Default for Followers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// The way to one follower.
#[derive(Debug)]
pub struct Follower(mpsc::Sender<Result<Event, Infallible>>);

impl Follower {
    /// Tells it something, at its pace. Returns whether it still listens.
    pub async fn tell(&self, data: &impl Serialize) -> bool {
        // What cannot be written is nobody's to wait for; our events always can.
        let Ok(event) = Event::default().json_data(data) else { return true };
        self.0.send(Ok(event)).await.is_ok()
    }

    /// It listens no more.
    pub async fn gone(&self) {
        self.0.closed().await;
    }
}

impl Followers {
    /// Answers with what `tell` says, until it returns or the follower goes. A follower that reads nothing is cut off as any
    /// other client is.
    pub fn answer<F>(&self, tell: impl FnOnce(Follower) -> F) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else {
            let error = format!("{MOST} others follow already");
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, error).into_response();
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let telling = tell(Follower(sender));
        tokio::spawn(async move {
            telling.await;
            drop(place);
        });
        Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_few_and_are_given_back() {
        let followers = Followers::default();
        let follow = || followers.answer(|follower| async move { follower.gone().await });
        let mut answers: Vec<Response> = (0..MOST).map(|_| follow()).collect();
        assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
        assert_eq!(follow().status(), StatusCode::SERVICE_UNAVAILABLE);
        answers.pop();
        while followers.0.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(follow().status(), StatusCode::OK);
    }
}
