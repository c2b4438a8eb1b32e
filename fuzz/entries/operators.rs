//! What locators answer, what operators ask for over HTTP, and what their command line gets to show.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use coordinatool::client::connection::{Target, Way};
use coordinatool::client::queue::{ITEMS, Queuer, Summary};
use coordinatool::hsm::event::{Ehlo, Message};
use coordinatool::ops::{Cookie, FidText, Select};
use coordinatool::server::locator::lines;
use coordinatool::wire::{Decoder, Limits, parse_message};

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

/// Where [`queue_lines`] hands requests in: a server that takes all of them and says how many it understood.
fn counting_server() -> &'static (String, Mutex<Receiver<u64>>) {
    static SERVER: OnceLock<(String, Mutex<Receiver<u64>>)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let (send, counts) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = send.send(count_items(stream.unwrap()));
            }
        });
        (port, Mutex::new(counts))
    })
}

/// Takes the messages of one connection: each is one that the daemon understands completely.
fn count_items(mut stream: TcpStream) -> u64 {
    let (mut decoder, mut buffer, mut all) = (Decoder::new(Limits::default()), [0; 16 << 10], 0);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        decoder.push(&buffer[..count]);
        while let Some(object) = decoder.next_object().unwrap() {
            let answer = match parse_message(object).unwrap() {
                Message::Queue(queue) => {
                    let items = queue.items.unwrap();
                    assert!(queue.bad_items == 0 && items.len() <= ITEMS);
                    all += items.len() as u64;
                    format!("{{\"command\": \"queue\", \"enqueued\": {}}}", items.len())
                }
                _ => "{\"command\": \"ehlo\"}".to_owned(),
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }
    all
}

/// Standard input of `coordinatool-client -Q`: each line is a request that the daemon understands, or is counted as what it is.
pub fn queue_lines(data: &[u8]) {
    let (port, counts) = counting_server();
    let counts = counts.lock().unwrap();
    let timeout = Some(Duration::from_secs(30));
    let target = Target { host: "127.0.0.1".into(), port: port.clone(), way: Way::Plain, timeout };
    let ehlo = Ehlo::default();
    let mut queuer = Queuer::new(&target, &ehlo, Some("testfs0"));
    queuer.run(&mut BufReader::with_capacity(7, data)).unwrap();
    let summary = queuer.summary.clone();
    drop(queuer);
    let Summary { sent, answered, enqueued, skipped, failure, .. } = &summary;
    if *sent > 0 {
        assert_eq!(counts.recv().unwrap(), *sent);
    }
    assert_eq!((answered, enqueued, skipped, failure), (sent, sent, &0, &None));
    let lines = data.split(|byte| *byte == b'\n').count() as u64;
    assert!(
        sent + summary.bad_lines + summary.canceled + summary.cancels + summary.ended <= lines,
        "{summary:?}"
    );
}
