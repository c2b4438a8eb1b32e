//! `GET /api/v1/hsm/events`: what happens, as server-sent events.
//!
//! What happens to requests and movers comes from the coordinator, while somebody follows. Alerts are found by looking at
//! the state again and again, once for all followers. Nothing is kept for those who were not there: `history` and `status`
//! say what was and what is. Events may be told before what they tell is durable.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::super::envelope::Problem;
use super::super::stream::{Follower, Followers};
use super::{Context, invalid, status};
use crate::ops::{Alert, Event, EventKind, FidText};

/// How often alerts are looked for while somebody follows.
const LOOK: Duration = Duration::from_secs(1);

/// Those who follow what happens, and the alerts that they are told.
#[derive(Debug)]
pub struct Follow {
    followers: Followers,
    /// When they were looked at (nanoseconds since the epoch), and what there was.
    alerts: watch::Sender<(i64, Vec<Alert>)>,
}

impl Default for Follow {
    fn default() -> Self {
        Self { followers: Followers::default(), alerts: watch::channel((0, Vec::new())).0 }
    }
}

/// Looks for alerts for as long as the daemon runs, while somebody follows.
pub async fn watch_alerts(context: Context) {
    loop {
        tokio::time::sleep(LOOK).await;
        if context.follow.alerts.receiver_count() > 0 {
            let Ok(now) = status::gather(&context).await else { return };
            context.follow.alerts.send_replace((now.now, now.alerts));
        }
    }
}

/// Which events are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    kind: Option<String>,
    fid: Option<String>,
    mover: Option<String>,
    failed: bool,
}

/// The same once it is understood.
#[derive(Debug, Default)]
struct Filter {
    kinds: Vec<EventKind>,
    fid: Option<FidText>,
    mover: Option<String>,
    failed: bool,
}

impl Wanted {
    fn filter(self) -> Result<Filter, String> {
        let mut kinds = Vec::new();
        for name in self.kind.iter().flat_map(|kinds| kinds.split(',')) {
            let found = EventKind::ALL.iter().find(|(known, _)| *known == name);
            kinds.push(found.ok_or_else(|| format!("kind: {name:?} is none of request, mover, alert"))?.1);
        }
        let fid = self.fid.map(|fid| fid.parse()).transpose()?;
        Ok(Filter { kinds, fid, mover: self.mover, failed: self.failed })
    }
}

impl Filter {
    fn wants(&self, event: &Event) -> bool {
        // What happened to one file, or what failed, is about requests.
        let of_requests = self.fid.is_some() || self.failed;
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (!of_requests || event.kind == EventKind::Request)
            && self.fid.is_none_or(|fid| event.fid == Some(fid))
            && self.mover.as_ref().is_none_or(|mover| event.mover.as_ref() == Some(mover))
            && (!self.failed || event.status.is_some_and(|status| status != 0))
    }
}

/// What a follower knows of alerts.
#[derive(Debug, Default)]
struct Known(BTreeMap<(String, String), Alert>);

impl Known {
    /// What is new since, and what is gone.
    fn change(&mut self, at: i64, alerts: &[Alert]) -> Vec<Event> {
        let key = |alert: &Alert| (alert.kind.clone(), alert.about.clone());
        let now: BTreeMap<_, _> = alerts.iter().map(|alert| (key(alert), alert.clone())).collect();
        let gone = self.0.iter().filter(|(key, _)| !now.contains_key(*key));
        let mut events: Vec<Event> = gone.map(|(_, alert)| Event::of_alert(at, alert, false)).collect();
        let new = alerts.iter().filter(|alert| !self.0.contains_key(&key(alert)));
        events.extend(new.map(|alert| Event::of_alert(at, alert, true)));
        self.0 = now;
        events
    }
}

/// `GET /api/v1/hsm/events?kind=&fid=&mover=&failed=`: what happens from now on; the alerts that there are come first.
pub async fn events(
    State(context): State<Context>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let filter = wanted.filter().map_err(invalid)?;
    let happened = context.core.with(|shell| shell.follow()).await?;
    let alerts = context.follow.alerts.subscribe();
    let follow = context.follow.clone();
    Ok(follow.followers.answer(|follower| async move {
        // It ends when the follower is gone, or was told why.
        let _ = tell(&context, &filter, &follower, happened, alerts).await;
    }))
}

/// Tells a follower everything that it wants; `None` once it is gone.
async fn tell(
    context: &Context,
    filter: &Filter,
    follower: &Follower,
    mut happened: tokio::sync::broadcast::Receiver<crate::hsm::feed::Happening>,
    mut alerts: watch::Receiver<(i64, Vec<Alert>)>,
) -> Option<()> {
    let tell = async |event: &Event| {
        let heard = !filter.wants(event) || follower.tell(event).await;
        heard.then_some(())
    };
    let now = || crate::system::clock::Clock::new().now().wall.0;
    let mut known = Known::default();
    // What others were shown may be old.
    if let Ok(status) = status::gather(context).await {
        for event in known.change(status.now, &status.alerts) {
            tell(&event).await?;
        }
    }
    loop {
        tokio::select! {
            happening = happened.recv() => match happening {
                Ok(happening) => tell(&Event::from(&happening)).await?,
                Err(RecvError::Lagged(missed)) => {
                    let text = format!("{missed} events were missed: they were not read as fast as they came");
                    follower.tell(&Event::of_end(now(), "slow", text)).await;
                    return None;
                }
                Err(RecvError::Closed) => {
                    let text = "the daemon is stopping".to_owned();
                    follower.tell(&Event::of_end(now(), "stopping", text)).await;
                    return None;
                }
            },
            changed = alerts.changed() => {
                changed.ok()?;
                let (at, present) = alerts.borrow_and_update().clone();
                for event in known.change(at, &present) {
                    tell(&event).await?;
                }
            }
            () = follower.gone() => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_told_once_however_their_words_change() {
        let alert = |kind: &str, about: &str, text: &str| Alert {
            kind: kind.into(),
            about: about.into(),
            text: text.into(),
            ..Alert::default()
        };
        let mut known = Known::default();
        let mut told = |alerts: &[Alert]| -> Vec<String> {
            let name = |event: Event| format!("{} {}", event.what, event.alert.unwrap().about);
            known.change(1, alerts).into_iter().map(name).collect()
        };
        assert_eq!(
            told(&[alert("drained", "m0", "a"), alert("drained", "m1", "a")]),
            ["raised m0", "raised m1"]
        );
        assert!(told(&[alert("drained", "m0", "b"), alert("drained", "m1", "c")]).is_empty());
        assert_eq!(told(&[alert("drained", "m1", "c"), alert("locked", "", "")]), ["cleared m0", "raised "]);
    }

    #[test]
    fn only_what_is_wanted_is_told() {
        let wanted = |text: &str| serde_json::from_str::<Wanted>(text).unwrap().filter();
        let request = Event {
            fid: Some("0x1:0x2:0x0".parse().unwrap()),
            mover: Some("m0".into()),
            status: Some(5),
            ..Event::default()
        };
        let good = Event { status: Some(0), ..request.clone() };
        let mover = Event { kind: EventKind::Mover, mover: Some("m0".into()), ..Event::default() };
        let alert = Event { kind: EventKind::Alert, ..Event::default() };
        let cases: [(&str, [bool; 4]); 6] = [
            ("{}", [true, true, true, true]),
            (r#"{"kind": "mover,alert"}"#, [false, false, true, true]),
            (r#"{"fid": "[0x1:0x2:0x0]"}"#, [true, true, false, false]),
            (r#"{"fid": "0x1:0x3:0x0"}"#, [false, false, false, false]),
            (r#"{"mover": "m0"}"#, [true, true, true, false]),
            (r#"{"failed": true}"#, [true, false, false, false]),
        ];
        for (text, want) in cases {
            let filter = wanted(text).unwrap();
            assert_eq!([&request, &good, &mover, &alert].map(|event| filter.wants(event)), want, "{text}");
        }
        assert!(wanted(r#"{"kind": "end"}"#).unwrap_err().contains("alert"));
        assert!(wanted(r#"{"fid": "x"}"#).is_err());
    }
}
