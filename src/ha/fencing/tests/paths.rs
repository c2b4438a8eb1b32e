//! Each path through a change of power.

use super::*;

/// Plays a script against a change. The script names each expected step and gives its answer: `status a: on`,
/// `off b: failed why`, `wait 2` (seconds), and ends with the verdict: `= off acted`, `= off`, `= on`, `= failed TEXT`.
fn play(levels: &[FenceLevel], goal: Goal, script: &str) {
    let mut change = PowerChange::new(levels.to_vec(), goal);
    let mut now = Mono(1_000);
    let mut answer = None;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let step = change.step(now, answer.take());
        if let Some(verdict) = line.strip_prefix("= ") {
            let expected = match verdict {
                "off" => Verdict::Off { acted: false },
                "off acted" => Verdict::Off { acted: true },
                "on" => Verdict::On,
                _ => Verdict::Failed(verdict.strip_prefix("failed ").unwrap().to_owned()),
            };
            assert_eq!(step, Step::Over(expected.clone()), "{line} of {script}");
            assert_eq!(change.step(now + 1000 * SECOND, None), Step::Over(expected), "over is over");
            return;
        }
        if let Some(seconds) = line.strip_prefix("wait ") {
            let until = now + seconds.parse::<u32>().unwrap() * SECOND;
            assert_eq!(step, Step::Wait(until), "{line} of {script}");
            assert_eq!(change.step(now, None), Step::Wait(until), "too early");
            now = until;
            continue;
        }
        let (call, says) = line.split_once(": ").unwrap();
        let Step::Call { level, device, action } = step else {
            panic!("{line} expected, but {step:?}, in {script}")
        };
        let name = &levels[level].devices[device].name;
        assert_eq!(change.called_device(level, device), Some(&levels[level].devices[device]));
        assert_eq!(format!("{} {name}", format!("{action:?}").to_lowercase()), call, "in {script}");
        answer = Some(match says {
            "on" => DeviceAnswer::On,
            "off" => DeviceAnswer::Off,
            "done" => DeviceAnswer::Done,
            "nothing" => DeviceAnswer::TimedOut,
            _ => failed(says.strip_prefix("failed ").unwrap()),
        });
    }
    panic!("the script has no verdict: {script}");
}

#[test]
fn what_is_off_already_is_not_touched() {
    play(&levels(&[&[1]]), Goal::Off, "status a: off\n = off");
    play(&levels(&[&[1, 1], &[1]]), Goal::Off, "status a: off\n status b: off\n = off");
}

#[test]
fn off_is_believed_when_status_says_so() {
    play(&levels(&[&[1]]), Goal::Off, "status a: on\n off a: done\n status a: off\n = off acted");
    // Only what is not off is switched, and all are asked again.
    play(
        &levels(&[&[1, 1]]),
        Goal::Off,
        "status a: off\n status b: on\n off b: done\n status a: off\n status b: off\n = off acted",
    );
    // A status that fails proves nothing, so the device is switched.
    play(
        &levels(&[&[1, 1]]),
        Goal::Off,
        "status a: nothing\n status b: failed x\n off a: done\n off b: done\n status a: off\n status b: off\n = off acted",
    );
}

#[test]
fn a_slow_device_is_asked_again_until_verify_is_over() {
    play(
        &levels(&[&[1]]),
        Goal::Off,
        "status a: on\n off a: done\n status a: on\n wait 1\n status a: failed x\n wait 2\n status a: on\n wait 4\n
         status a: off\n = off acted",
    );
    // A liar: 20 s, and never off.
    play(
        &levels(&[&[1]]),
        Goal::Off,
        "status a: on\n off a: done\n status a: on\n wait 1\n status a: on\n wait 2\n status a: on\n wait 4\n
         status a: on\n wait 4\n status a: on\n wait 4\n status a: on\n wait 4\n status a: on\n wait 1\n status a: on\n
         = failed a: off: done, status: on",
    );
}

#[test]
fn an_off_that_failed_may_have_worked() {
    for answer in ["nothing", "failed x"] {
        play(
            &levels(&[&[1]]),
            Goal::Off,
            &format!("status a: on\n off a: {answer}\n status a: off\n = off acted"),
        );
    }
    // Or it works while nobody looks.
    play(
        &levels(&[&[2]]),
        Goal::Off,
        "status a: on\n off a: nothing\n status a: nothing\n wait 1\n status a: off\n = off acted",
    );
}

#[test]
fn off_is_tried_as_often_as_configured_with_backoff() {
    play(
        &levels(&[&[3]]),
        Goal::Off,
        "status a: on\n off a: failed x\n status a: on\n wait 1\n status a: on\n off a: nothing\n status a: on\n
         wait 2\n status a: on\n off a: failed y\n status a: on\n = failed a: off: failed (y), status: on",
    );
    // No attempts configured are one.
    play(
        &levels(&[&[0]]),
        Goal::Off,
        "status a: on\n off a: failed x\n status a: nothing\n
         = failed a: off: failed (x), status: no answer in time",
    );
    // Only devices with attempts left that are not off are tried again.
    play(
        &levels(&[&[2, 2]]),
        Goal::Off,
        "status a: on\n status b: on\n off a: done\n off b: failed x\n status a: off\n status b: on\n wait 1\n
         status a: off\n status b: on\n off b: done\n status a: off\n status b: off\n = off acted",
    );
    play(
        &levels(&[&[1, 2]]),
        Goal::Off,
        "status a: on\n status b: on\n off a: failed x\n off b: failed y\n status a: on\n wait 1\n
         status a: on\n status b: off\n
         = failed a: off: failed (x), status: on; b: off: failed (y), status: off",
    );
}

#[test]
fn the_next_level_decides_when_one_fails() {
    play(
        &levels(&[&[1], &[], &[1, 1]]),
        Goal::Off,
        "status a: failed x\n off a: failed y\n status a: failed z\n status b: on\n status c: on\n off b: done\n
         off c: done\n status b: off\n status c: off\n = off acted",
    );
    // Acted means by any level.
    play(
        &levels(&[&[1], &[1]]),
        Goal::Off,
        "status a: on\n off a: failed y\n status a: on\n status b: off\n = off acted",
    );
    play(
        &levels(&[&[1], &[1]]),
        Goal::Off,
        "status a: on\n off a: failed x\n status a: on\n status b: on\n off b: failed y\n status b: on\n
         = failed a: off: failed (x), status: on; b: off: failed (y), status: on",
    );
}

#[test]
fn half_a_level_is_no_proof() {
    play(
        &levels(&[&[1, 1]]),
        Goal::Off,
        "status a: off\n status b: nothing\n off b: failed x\n status a: off\n status b: nothing\n
         = failed a: status: off; b: off: failed (x), status: no answer in time",
    );
    // What was off at the first look must be off at the last one.
    play(
        &levels(&[&[1, 2]]),
        Goal::Off,
        "status a: off\n status b: on\n off b: failed x\n status a: on\n wait 1\n status a: off\n status b: off\n = off acted",
    );
    // A level has as many attempts as its device with the most.
    play(
        &levels(&[&[1, 1]]),
        Goal::Off,
        "status a: off\n status b: on\n off b: failed x\n status a: on\n
         = failed a: status: on; b: off: failed (x), status: not asked",
    );
}

#[test]
fn the_delay_comes_before_the_first_off_only() {
    let delayed = |name: &str, seconds| FenceDevice { delay: seconds * SECOND, attempts: 2, ..device(name) };
    let levels = [level([delayed("a", 3), delayed("b", 5)]), level([delayed("c", 9)])];
    play(&levels, Goal::Off, "status a: off\n status b: off\n = off");
    play(
        &levels,
        Goal::Off,
        "status a: on\n status b: off\n wait 3\n off a: failed x\n status a: on\n wait 1\n status a: on\n
         status b: on\n off a: failed x\n off b: failed x\n status a: on\n
         status c: on\n off c: done\n status c: off\n = off acted",
    );
    play(&levels, Goal::On, "status a: off\n status b: on\n on a: done\n status a: on\n status b: on\n = on");
}

#[test]
fn on_uses_the_first_level_that_answers() {
    let two = levels(&[&[1, 1], &[1]]);
    play(&two, Goal::On, "status a: on\n status b: on\n = on");
    play(&two, Goal::On, "status a: nothing\n status b: on\n = on");
    play(
        &two,
        Goal::On,
        "status a: off\n status b: nothing\n on a: done\n status a: off\n wait 1\n status a: on\n status b: nothing\n = on",
    );
    play(
        &two,
        Goal::On,
        "status a: nothing\n status b: failed x\n status c: off\n on c: nothing\n status c: on\n = on",
    );
    play(
        &two,
        Goal::On,
        "status a: off\n status b: off\n on a: done\n on b: failed x\n status a: on\n status b: off\n
         status c: nothing\n
         = failed a: on: done, status: on; b: on: failed (x), status: off; c: status: no answer in time",
    );
}

#[test]
fn status_is_decided_by_the_first_level_that_answers_completely() {
    let two = levels(&[&[1, 1], &[1]]);
    play(&two, Goal::Status, "status a: off\n status b: off\n = off");
    play(&two, Goal::Status, "status a: off\n status b: on\n = on");
    play(&two, Goal::Status, "status a: on\n status b: off\n = on");
    play(&two, Goal::Status, "status a: off\n status b: nothing\n status c: off\n = off");
    play(&two, Goal::Status, "status a: on\n status b: done\n status c: on\n = on");
    play(
        &two,
        Goal::Status,
        "status a: off\n status b: done\n status c: failed x\n
         = failed a: status: off; b: status: done; c: status: failed (x)",
    );
}

#[test]
fn without_devices_nothing_is_proven() {
    for levels in [levels(&[]), levels(&[&[]]), levels(&[&[], &[]])] {
        for goal in [Goal::Off, Goal::On, Goal::Status] {
            play(&levels, goal, "= failed no fence device is configured for this host");
        }
    }
}

#[test]
fn a_missing_answer_is_none_in_time() {
    let mut change = PowerChange::new(levels(&[&[1]]), Goal::Status);
    let asked = change.step(Mono(0), Some(DeviceAnswer::Off));
    assert_eq!(asked, Step::Call { level: 0, device: 0, action: DeviceAction::Status });
    let verdict = Verdict::Failed("a: status: no answer in time".to_owned());
    assert_eq!(change.step(Mono(1), None), Step::Over(verdict));
}

#[test]
fn a_caller_that_slept_calls_nothing_any_more() {
    let levels = levels(&[&[5]]);
    let mut change = PowerChange::new(levels, Goal::Off);
    let budget = change.budget();
    assert!(matches!(change.step(Mono(0), None), Step::Call { action: DeviceAction::Status, .. }));
    let late = Mono(0) + budget - 9 * SECOND;
    let step = change.step(late, Some(DeviceAnswer::On));
    assert_eq!(step, Step::Over(Verdict::Failed("a: status: on; a: no time is left to call off".to_owned())));
}

#[test]
fn a_late_first_step_does_not_move_the_end() {
    let levels = levels(&[&[1]]);
    let change = PowerChange::new(levels.clone(), Goal::Off);
    let end = Mono(1_000) + change.budget();
    let mut change = change.ending_by(end);
    assert_eq!(change.levels(), levels);
    let verdict = Verdict::Failed("a: status: not asked; a: no time is left to call status".to_owned());
    assert_eq!(change.step(end - 5 * SECOND, None), Step::Over(verdict));
}

#[test]
fn long_words_are_cut() {
    let mut change = PowerChange::new(levels(&[&[1]]), Goal::Status);
    change.step(Mono(0), None);
    match change.step(Mono(0), Some(failed(&"é".repeat(100_000)))) {
        Step::Over(Verdict::Failed(words)) => assert!(words.len() < 1000, "{}", words.len()),
        step => panic!("{step:?}"),
    }
}
