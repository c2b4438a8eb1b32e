//! What locators answer, what operators ask for over HTTP, and what their command line gets to show.

use coordinatool::ops::{Cookie, FidText, Select};
use coordinatool::server::locator::lines;

/// A locator's answer, as lines and as JSON: what is read is a place or a complaint.
pub fn locator(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (answers, bad) = lines::read(&text);
    assert!(answers.len() + bad.len() <= text.lines().count());
    if let Ok((answers, bad)) = lines::read_json(data) {
        assert!(answers.len() + bad.len() <= data.len());
    }
}

/// The body of an order: a selection that is taken says the same when it is written again.
pub fn selection(data: &[u8]) {
    if let Ok(select) = serde_json::from_slice::<Select>(data) {
        let text = serde_json::to_vec(&select).unwrap();
        assert_eq!(serde_json::from_slice::<Select>(&text).unwrap(), select);
        if let Ok(core) = select.to_core() {
            assert_eq!(core.fids.len(), select.fids.len());
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(fid) = text.parse::<FidText>() {
        assert_eq!(fid.to_string().parse(), Ok(fid));
    }
    if let Ok(cookie) = text.parse::<Cookie>() {
        assert_eq!(cookie.to_string().parse(), Ok(cookie));
    }
}

/// What the API says, as the command line shows it: whatever ids and data others have chosen, a terminal gets text.
pub fn words(data: &[u8]) {
    use coordinatool::client::hsm::words;
    use coordinatool::ops::{DeadLetter, FileReport, Mover, Request};

    const NOW: i64 = 1_800_000_000_000_000_000;
    let mut shown = Vec::new();
    if let Ok(requests) = serde_json::from_slice::<Vec<Request>>(data) {
        shown.push(words::requests(&requests));
        shown.extend(requests.iter().map(words::request_line));
    }
    if let Ok(report) = serde_json::from_slice::<FileReport>(data) {
        shown.push(words::report(&report, "/mnt/a"));
        shown.push(words::history(&report.history));
    }
    if let Ok(movers) = serde_json::from_slice::<Vec<Mover>>(data) {
        shown.push(words::movers(&movers, NOW));
    }
    if let Ok(letters) = serde_json::from_slice::<Vec<DeadLetter>>(data) {
        shown.push(words::letters(&letters, NOW));
    }
    for text in shown {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
}
