//! Whatever the devices say, and whoever sleeps.

use proptest::prelude::*;

use super::*;

fn any_answer() -> impl Strategy<Value = DeviceAnswer> {
    prop_oneof![
        3 => Just(DeviceAnswer::On),
        4 => Just(DeviceAnswer::Off),
        3 => Just(DeviceAnswer::Done),
        1 => Just(DeviceAnswer::TimedOut),
        1 => Just(failed("x")),
        1 => Just(DeviceAnswer::Unsupported),
    ]
}

fn any_levels() -> impl Strategy<Value = Vec<FenceLevel>> {
    let any_device = (0u32..4, 0u32..20, 1u32..40).prop_map(|(attempts, delay, timeout)| FenceDevice {
        attempts,
        delay: delay * SECOND,
        timeout: timeout * SECOND,
        ..device("d")
    });
    let any_level = prop::collection::vec(any_device, 0..4).prop_map(level);
    prop::collection::vec(any_level, 0..4)
}

fn any_goal() -> impl Strategy<Value = Goal> {
    prop_oneof![4 => Just(Goal::Off), 1 => Just(Goal::On), 1 => Just(Goal::Status)]
}

proptest! {
    #[test]
    fn nothing_is_off_without_the_word_of_each_device_of_a_level(
        levels in any_levels(),
        goal in any_goal(),
        answers in prop::collection::vec((any_answer(), 0u64..=100), 400),
        sleeps in prop::collection::vec(0u32..2000, 0..3),
    ) {
        let mut change = PowerChange::new(levels.clone(), goal);
        let budget = change.budget();
        let begin = Mono(1_000_000_000_000);
        let mut now = begin;
        // What each device said last to status, void once it is switched.
        let mut said: Vec<Vec<Option<DeviceAnswer>>> =
            levels.iter().map(|level| vec![None; level.devices.len()]).collect();
        let mut acted = false;
        let mut answer = None;
        let mut calls = 0;
        let mut sleeps = sleeps.into_iter();
        let mut answers = answers.into_iter().cycle();
        let verdict = loop {
            match change.step(now, answer.take()) {
                Step::Over(verdict) => break verdict,
                Step::Wait(until) => {
                    prop_assert!(until > now, "a wait that is no wait");
                    now = until + sleeps.next().unwrap_or(0) * SECOND;
                }
                Step::Call { level, device, action } => {
                    calls += 1;
                    prop_assert!(calls < 400, "it never ends");
                    let configured = &levels[level].devices[device];
                    prop_assert!(now + configured.timeout + PowerChange::AFTERLIFE <= begin + budget, "a call outlives the budget");
                    let (given, per_cent) = answers.next().unwrap();
                    now += configured.timeout * u32::try_from(per_cent).unwrap() / 100;
                    match action {
                        DeviceAction::Status => said[level][device] = Some(given.clone()),
                        DeviceAction::Off | DeviceAction::On => {
                            prop_assert_eq!(action == DeviceAction::On, goal == Goal::On);
                            prop_assert!(goal != Goal::Status);
                            said[level][device] = None;
                            acted = true;
                        }
                        _ => prop_assert!(false, "{:?}", action),
                    }
                    answer = Some(given);
                }
            }
        };
        match verdict {
            Verdict::Off { acted: told } => {
                prop_assert_eq!(told, acted);
                let off = |level: &Vec<Option<DeviceAnswer>>| {
                    !level.is_empty() && level.iter().all(|said| *said == Some(DeviceAnswer::Off))
                };
                prop_assert!(goal != Goal::On && said.iter().any(off));
            }
            Verdict::On => {
                prop_assert!(goal != Goal::Off);
                prop_assert!(said.iter().flatten().any(|said| *said == Some(DeviceAnswer::On)));
            }
            Verdict::Failed(words) => prop_assert!(!words.is_empty()),
        }
    }

    #[test]
    fn a_prompt_caller_never_runs_out_of_time(
        levels in any_levels(),
        goal in any_goal(),
        answers in prop::collection::vec(any_answer(), 400),
    ) {
        let mut change = PowerChange::new(levels.clone(), goal);
        let mut now = Mono(0);
        let mut answer = None;
        let mut answers = answers.into_iter().cycle();
        loop {
            match change.step(now, answer.take()) {
                Step::Over(Verdict::Failed(words)) => {
                    prop_assert!(!words.contains("no time is left"), "{}", words);
                    break;
                }
                Step::Over(_) => break,
                Step::Wait(until) => now = until,
                Step::Call { level, device, .. } => {
                    now += levels[level].devices[device].timeout;
                    answer = answers.next();
                }
            }
        }
    }
}
