//! Feeds all entries of `fuzz/entries` with the examples in `fuzz/corpus` and with what becomes of them by chance.
//!
//! Bounded and deterministic: `COORDINATOOL_FUZZ_RUNS` (inputs per entry, 1000 unless set) makes it run longer,
//! `COORDINATOOL_FUZZ_SEED` starts elsewhere. A failure prints the seed of its input and the input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[path = "../fuzz/entries/mod.rs"]
mod entries;

/// Inputs grow no longer.
const MAX_INPUT: usize = 8192;

/// These take milliseconds for an input: a quarter of the inputs will do.
const SLOW: &[&str] = &["coordinator", "server_config", "queue_lines", "tls_files"];

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e400",
    b"-0",
    b"1.5",
    b"9223372036854775808",
    b"18446744073709551616",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"\"x\": {\"y\": [1, 2]}, ",
    b"\"hai_data_b64\": \"//4=\", ",
    b"\"hal_archive_id\": 0, ",
    b"\x1c\x19\x02\x00\x64\x00",
    b"\xff\xff\xff\xff",
    b"\xc7Re\x9c",
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\n- ",
    b"\n  ",
    b": ",
    b"&a ",
    b"*a",
    b"\t",
    b"2026-11-20T10:00:00\tfence\th1\t",
    b"\n",
    b"\n+5000\n",
    b"\n=0\n",
    b"\n-a\n",
    b"\n!t\n",
    b"\n!e\n",
    b"\n!60000\n",
    b"[0x200000401:0x1:0x0]",
    b" status=CANCELED ",
];

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..random.below(5) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(16)).min(input.len());
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.below(256) as u8,
            2 => drop(input.drain(at..end)),
            3 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 => input.truncate(at),
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let start = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[start..]);
            }
            _ => drop(input.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
        }
    }
    input.truncate(MAX_INPUT);
    input
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(target)).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

fn run(target: &str) {
    let (_, entry) = entries::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "no examples for {target}");
    let check = |what: &str, input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| entry(input))) {
            eprintln!("{target} failed on {what}: {:?}", input.escape_ascii().to_string());
            std::panic::resume_unwind(panic);
        }
    };
    check("nothing", b"");
    for (i, input) in corpus.iter().enumerate() {
        check(&format!("example {i}"), input);
    }
    let first = number("COORDINATOOL_FUZZ_SEED", 1);
    let runs = number("COORDINATOOL_FUZZ_RUNS", 1000);
    let runs = if SLOW.contains(&target) { runs / 4 } else { runs };
    for seed in first..first + runs {
        check(&format!("COORDINATOOL_FUZZ_SEED={seed}"), &mutate(&mut Random(seed), &corpus));
    }
}

macro_rules! targets {
    ($($target:ident)*) => {
        const RUN: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $target() {
                run(stringify!($target));
            }
        )*
    };
}

targets! {
    wire_decoder
    wire_message
    wire_reply
    wire_item
    kuc_frames
    action_list
    store_record
    store_segment
    redis_value
    redis_spill
    frames_to_agent
    frames_from_agent
    ha_config
    store_frames
    spill_frames
    halo_state
    client_config
    ocf_metadata
    ha_records
    server_config
    psk_file
    peer_certificate
    mdt_list
    mdt_listing
    mdt_tunables
    redis_stamp
    redis_answers
    locator_answer
    api_selection
    client_words
    queue_lines
    api_requests
    tls_files
    coordinator
    shim_replies
}

#[test]
fn every_entry_runs_here_and_under_cargo_fuzz() {
    let names: Vec<&str> = entries::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, RUN);
    let manifest = include_str!("../fuzz/Cargo.toml");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        let program = folder("../fuzz_targets").join(format!("{name}.rs"));
        assert!(program.exists(), "{}", program.display());
    }
}
