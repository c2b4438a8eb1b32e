//! What is said to a locator and what it answers, as lines and as JSON.

use std::collections::BTreeMap;
use std::str::FromStr;

use lustreapi_sys::Fid;
use serde::{Deserialize, Serialize};

use crate::hsm::{Located, Location};

/// One request, as a locator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The file.
    #[serde(serialize_with = "fid_text")]
    pub fid: Fid,
    /// `RESTORE` or `REMOVE`.
    pub action: &'static str,
    /// Archive id.
    pub archive_id: u32,
    /// The mover with the least work.
    pub focus: Option<String>,
    /// Name of the object in the back end, where the file says it.
    pub oid: Option<String>,
    /// Data of the request.
    pub data: String,
}

fn fid_text<S: serde::Serializer>(fid: &Fid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(fid)
}

/// What was found, by file. What is not in it was not answered.
pub type Answers = BTreeMap<Fid, Located>;

/// `FID ACTION ARCHIVE FOCUS OID` for each, `-` for what is not known. The OID is the rest of the line.
pub fn write(questions: &[Question]) -> String {
    let word = |text: &Option<String>| match text {
        Some(text) if !text.is_empty() && !text.contains(char::is_whitespace) => text.clone(),
        _ => "-".to_owned(),
    };
    let oid = |text: &Option<String>| match text {
        Some(text) if !text.is_empty() && !text.contains(['\n', '\r', '\0']) => text.clone(),
        _ => "-".to_owned(),
    };
    let line = |question: &Question| {
        let Question { fid, action, archive_id, .. } = question;
        format!("{fid} {action} {archive_id} {} {}\n", word(&question.focus), oid(&question.oid))
    };
    questions.iter().map(line).collect()
}

/// Reads lines of `FID [TAPE [HOST [POSITION]]]`, `-` for what is not known. Returns also what could not be read.
pub fn read(text: &str) -> (Answers, Vec<String>) {
    let (mut answers, mut bad) = (Answers::new(), Vec::new());
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match read_line(line) {
            Ok((fid, location)) => {
                answers.insert(fid, Located::At(location));
            }
            Err(why) => bad.push(format!("`{line}`: {why}")),
        }
    }
    (answers, bad)
}

fn read_line(line: &str) -> Result<(Fid, Location), String> {
    let mut words = line.split_whitespace();
    let fid = words.next().unwrap_or_default();
    let fid = Fid::from_str(fid).map_err(|_| "it does not begin with a FID".to_owned())?;
    let mut word = || words.next().filter(|&word| word != "-").map(str::to_owned);
    let (tape, host, position) = (word(), word(), word());
    let position = position
        .map(|text| text.parse().map_err(|_| format!("`{text}` is not a position, a number from 0 on")))
        .transpose()?;
    if words.next().is_some() {
        return Err("more than FID TAPE HOST POSITION".to_owned());
    }
    Ok((fid, Location { tape, host, position }))
}

#[derive(Serialize)]
struct Body<'a> {
    requests: &'a [Question],
}

#[derive(Deserialize)]
struct Reply {
    locations: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    fid: String,
    #[serde(default)]
    tape: Option<String>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    position: Option<u64>,
}

/// `{"requests": [...]}`.
pub fn write_json(questions: &[Question]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Body { requests: questions })
}

/// `{"locations": [{"fid": ..., "tape": ..., "host": ..., "position": ...}]}`.
pub fn read_json(bytes: &[u8]) -> Result<(Answers, Vec<String>), serde_json::Error> {
    let reply: Reply = serde_json::from_slice(bytes)?;
    let (mut answers, mut bad) = (Answers::new(), Vec::new());
    for Place { fid, tape, host, position } in reply.locations {
        match Fid::from_str(&fid) {
            Ok(fid) => {
                answers.insert(fid, Located::At(Location { tape, host, position }));
            }
            Err(_) => bad.push(format!("`{fid}` is not a FID")),
        }
    }
    Ok((answers, bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(oid: u32, name: Option<&str>) -> Question {
        Question {
            fid: Fid::new(0x2_0000_0401, oid, 0),
            action: "RESTORE",
            archive_id: 1,
            focus: Some("mover0".into()),
            oid: name.map(str::to_owned),
            data: "tag=a".into(),
        }
    }

    fn at(tape: Option<&str>, host: Option<&str>, position: Option<u64>) -> Located {
        Located::At(Location { tape: tape.map(str::to_owned), host: host.map(str::to_owned), position })
    }

    #[test]
    fn questions_are_lines() {
        let questions = [question(1, Some("an oid")), question(2, None), question(3, Some("a\nb"))];
        let want = "[0x200000401:0x1:0x0] RESTORE 1 mover0 an oid\n\
                    [0x200000401:0x2:0x0] RESTORE 1 mover0 -\n\
                    [0x200000401:0x3:0x0] RESTORE 1 mover0 -\n";
        assert_eq!(write(&questions), want);
    }

    #[test]
    fn answers_may_be_short_and_bad_ones_are_told() {
        let text = "[0x200000401:0x1:0x0] T1 mover1 17\n0x200000401:0x2:0x0 - mover2\n\n\
                    [0x200000401:0x3:0x0]\nnonsense T1\n[0x200000401:0x4:0x0] T1 - -1\n\
                    [0x200000401:0x5:0x0] a b 1 d\n";
        let (answers, bad) = read(text);
        let fid = |oid| Fid::new(0x2_0000_0401, oid, 0);
        assert_eq!(answers.len(), 3);
        assert_eq!(answers[&fid(1)], at(Some("T1"), Some("mover1"), Some(17)));
        assert_eq!(answers[&fid(2)], at(None, Some("mover2"), None));
        assert_eq!(answers[&fid(3)], at(None, None, None));
        assert_eq!(bad.len(), 3);
        assert!(
            bad[0].contains("FID") && bad[1].contains("position") && bad[2].contains("more than"),
            "{bad:?}"
        );
    }

    #[test]
    fn json_goes_both_ways() {
        let text = String::from_utf8(write_json(&[question(1, Some("o"))]).unwrap()).unwrap();
        let want = r#"{"requests":[{"fid":"[0x200000401:0x1:0x0]","action":"RESTORE","archive_id":1,"focus":"mover0","oid":"o","data":"tag=a"}]}"#;
        assert_eq!(text, want);
        let reply = br#"{"locations": [{"fid": "0x200000401:0x1:0x0", "tape": "T", "position": 3}, {"fid": "x"}], "more": 1}"#;
        let (answers, bad) = read_json(reply).unwrap();
        assert_eq!(answers.into_values().collect::<Vec<_>>(), [at(Some("T"), None, Some(3))]);
        assert_eq!(bad.len(), 1);
        assert!(read_json(b"[]").is_err());
    }
}
