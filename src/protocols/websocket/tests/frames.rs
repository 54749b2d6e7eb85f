//! Frames have the same meaning wherever the stream is cut, and pings are answered in their place.

use super::*;

/// The frames of a peer, and the items that the handler sees and sends.
struct Row {
    name: &'static str,
    frames: Vec<(u8, Vec<u8>)>,
    seen: Vec<Saw>,
    sent: Vec<Sent>,
}

fn row(name: &'static str, frames: Vec<(u8, &[u8])>, seen: Vec<Saw>, sent: Vec<(u8, &[u8])>) -> Row {
    let owned =
        |frames: Vec<(u8, &[u8])>| frames.into_iter().map(|(first, payload)| (first, payload.to_vec())).collect();
    Row { name, frames: owned(frames), seen, sent: owned(sent) }
}

/// One message in one frame; the handler sends it back.
fn message(name: &'static str, first: u8, payload: &[u8]) -> Row {
    let saw = if first == TEXT {
        Saw::Text(String::from_utf8(payload.to_vec()).expect("it is text"))
    } else {
        Saw::Binary(payload.to_vec())
    };
    row(name, vec![(first, payload)], vec![saw], vec![(first, payload)])
}

fn text(text: &str) -> Saw {
    Saw::Text(text.into())
}

#[rustfmt::skip]
fn legal() -> Vec<Row> {
    let (ends, bye) = (close_payload(4999, &"x".repeat(123)), close_payload(1000, "bye €"));
    vec![
        message("empty text", TEXT, b""),
        message("a letter", TEXT, b"a"),
        message("text of two, three and four bytes", TEXT, "éκ€𝄞".as_bytes()),
        message("text of the longest short length", TEXT, &[b'a'; 125]),
        message("text of the shortest middle length", TEXT, &[b'b'; 126]),
        message("text of the next length", TEXT, &[b'c'; 127]),
        message("empty bytes", BINARY, b""),
        message("all bytes", BINARY, &(0..=255).collect::<Vec<_>>()),
        message("bytes that look like a close frame", BINARY, b"\x88\x02\x03\xe8"),
        message("bytes of the longest middle length", BINARY, &[7; 65_535]),
        message("bytes of the shortest long length", BINARY, &[8; 65_536]),
        message("the largest message", BINARY, &[9; MAX]),
        row("the largest message in fragments", vec![(2, &[9; MAX - 1]), (0, b"\x09"), (0x80, b"")], vec![Saw::Binary(vec![9; MAX])],
            vec![(BINARY, &[9; MAX])]),
        row("a ping", vec![(PING, b"here")], vec![], vec![(PONG, b"here")]),
        row("an empty ping", vec![(PING, b"")], vec![], vec![(PONG, b"")]),
        row("the longest ping", vec![(PING, &[9; 125])], vec![], vec![(PONG, &[9; 125])]),
        row("a pong", vec![(PONG, b"unasked")], vec![Saw::Pong(b"unasked".into())], vec![]),
        row("the longest pong", vec![(PONG, &[9; 125])], vec![Saw::Pong(vec![9; 125])], vec![]),
        row("a close frame", vec![(CLOSE, &bye)], vec![Saw::Close(Some(1000), "bye €".into())], vec![(CLOSE, &bye[..2])]),
        row("an empty close frame", vec![(CLOSE, b"")], vec![Saw::Close(None, String::new())], vec![(CLOSE, b"")]),
        row("the longest close frame", vec![(CLOSE, &ends)], vec![Saw::Close(Some(4999), "x".repeat(123))], vec![(CLOSE, &ends[..2])]),
        row("text in fragments", vec![(1, b"one "), (0, b"two "), (0x80, b"three")], vec![text("one two three")],
            vec![(TEXT, b"one two three")]),
        row("bytes in fragments", vec![(2, b"\xff"), (0x80, b"\xfe")], vec![Saw::Binary(b"\xff\xfe".into())], vec![(BINARY, b"\xff\xfe")]),
        row("empty fragments", vec![(1, b""), (0, b""), (0x80, b"")], vec![text("")], vec![(TEXT, b"")]),
        row("a character in fragments", vec![(1, b"\xf0"), (0, b"\x9d\x84"), (0x80, b"\x9e")], vec![text("𝄞")],
            vec![(TEXT, "𝄞".as_bytes())]),
        row("fragments of a middle length", vec![(2, &[1; 200]), (0x80, &[1; 200])], vec![Saw::Binary(vec![1; 400])],
            vec![(BINARY, &[1; 400])]),
        row("pings and a pong between fragments",
            vec![(1, b"a"), (PING, b"1"), (0, b"b"), (PONG, b"p"), (PING, b"2"), (0x80, b"c")],
            vec![Saw::Pong(b"p".into()), text("abc")], vec![(PONG, b"1"), (PONG, b"2"), (TEXT, b"abc")]),
        row("pings between messages",
            vec![(PING, b"1"), (TEXT, b"a"), (PING, b"2"), (PING, b"3"), (BINARY, b"b"), (PING, b"4")],
            vec![text("a"), Saw::Binary(b"b".into())],
            vec![(PONG, b"1"), (TEXT, b"a"), (PONG, b"2"), (PONG, b"3"), (BINARY, b"b"), (PONG, b"4")]),
        row("a ping before a close frame, and one behind it", vec![(PING, b"1"), (CLOSE, &bye), (PING, b"2")],
            vec![Saw::Close(Some(1000), "bye €".into())], vec![(PONG, b"1"), (CLOSE, &bye[..2])]),
        row("a close frame between fragments", vec![(1, b"never"), (CLOSE, b"\x0f\xa1"), (0x80, b"whole")],
            vec![Saw::Close(Some(4001), String::new())], vec![(CLOSE, b"\x0f\xa1")]),
    ]
}

/// With permessage-deflate; the compressed payloads are those of RFC 7692 section 7.2.3.
#[rustfmt::skip]
fn compressed() -> Vec<Row> {
    let hello = vec![text("Hello")];
    let sent: Vec<(u8, &[u8])> = vec![(TEXT, b"Hello")];
    vec![
        row("a compressed message", vec![(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\0")], hello.clone(), sent.clone()),
        row("a compressed message in fragments", vec![(0x41, b"\xf2\x48\xcd"), (0x80, b"\xc9\xc9\x07\0")], hello.clone(), sent.clone()),
        row("a ping between compressed fragments", vec![(0x41, b"\xf2\x48\xcd"), (PING, b"1"), (0x80, b"\xc9\xc9\x07\0")], hello.clone(),
            vec![(PONG, b"1"), (TEXT, b"Hello")]),
        row("a compressed message that is empty", vec![(0xc2, b"\0")], vec![Saw::Binary(vec![])], vec![(BINARY, b"")]),
        row("a message that is not compressed", vec![(TEXT, b"Hello")], hello, sent),
    ]
}

/// The outcome of a stream that arrives in these pieces.
fn outcome(mut socket: Socket, pieces: &[&[u8]]) -> (Vec<Saw>, Vec<Sent>, bool) {
    for piece in pieces {
        socket.receive(piece);
        assert!(socket.is_closed || socket.wire.unread.len() < socket.socket.longest(), "input that waits is bounded");
    }
    let sent = socket.sent();
    (socket.seen, sent, socket.is_closed)
}

/// All places of a short stream; of a long one the places at both ends and some between.
fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..=len).filter(move |at| len < 1000 || *at < 30 || len - at < 30 || at % 9973 == 0)
}

fn assert_the_same_in_all_cuts(make: impl Fn() -> Socket, stream: &[u8], name: &str) -> (Vec<Saw>, Vec<Sent>, bool) {
    let whole = outcome(make(), &[stream]);
    for at in places(stream.len()) {
        let (left, right) = stream.split_at(at);
        assert!(outcome(make(), &[left, right]) == whole, "{name}: cut at {at}");
    }
    if stream.len() < 1000 {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert!(outcome(make(), &bytes) == whole, "{name}: byte by byte");
    }
    whole
}

#[test]
fn frames_mean_the_same_wherever_the_stream_is_cut() {
    let tables = [(legal(), false), (legal(), true), (compressed(), true)];
    for (row, deflate) in tables.iter().flat_map(|(rows, deflate)| rows.iter().map(move |row| (row, *deflate))) {
        assert_row(row, deflate, false);
        assert_row(row, deflate, true);
    }
}

fn assert_row(row: &Row, deflate: bool, client: bool) {
    let make = || Socket::new(client, deflate);
    let key = make().key();
    let mut stream: Vec<u8> = row.frames.iter().flat_map(|(first, payload)| raw(*first, payload, key)).collect();
    stream.extend(raw(TEXT, b"tail", key));
    let (seen, sent, is_closed) = assert_the_same_in_all_cuts(make, &stream, row.name);
    let closes = matches!(row.seen.last(), Some(Saw::Close(..)));
    let (mut right_seen, mut right_sent) = (row.seen.clone(), row.sent.clone());
    if !closes {
        right_seen.push(text("tail"));
        right_sent.push((TEXT, b"tail".to_vec()));
    }
    assert!((&seen, is_closed) == (&right_seen, closes), "{}, as client: {client}: {seen:.300?}", row.name);
    assert!(sent == right_sent, "{}, as client: {client}: {sent:.300?}", row.name);
}

/// Name, frames under the mask of the peer, text of the violation, close code. Without a text it is the violation
/// about masks.
type Broken = (&'static str, fn(Option<[u8; 4]>) -> Vec<u8>, &'static str, u16);

/// A head with a length in these bytes, and nothing after it.
fn long(first: u8, key: Option<[u8; 4]>, class: u8, len: &[u8]) -> Vec<u8> {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    [&[first, mask_bit | class], len, &key.unwrap_or_default()[..if key.is_some() { 4 } else { 0 }]].concat()
}

#[rustfmt::skip]
const BROKEN: [Broken; 31] = [
    ("RSV1", |key| raw(0xc1, b"x", key), "a frame with reserved bits that mean nothing here", 1002),
    ("RSV2", |key| raw(0xa1, b"x", key), "a frame with reserved bits that mean nothing here", 1002),
    ("RSV3", |key| raw(0x91, b"x", key), "a frame with reserved bits that mean nothing here", 1002),
    ("opcode 3", |key| raw(0x83, b"x", key), "a frame of the reserved opcode 3", 1002),
    ("opcode 7", |key| raw(0x87, b"x", key), "a frame of the reserved opcode 7", 1002),
    ("opcode 11", |key| raw(0x8b, b"x", key), "a frame of the reserved opcode 11", 1002),
    ("opcode 15", |key| raw(0x8f, b"x", key), "a frame of the reserved opcode 15", 1002),
    ("a ping in fragments", |key| raw(0x09, b"x", key), "a control frame in fragments", 1002),
    ("a close frame in fragments", |key| raw(0x08, b"\x03\xe8", key), "a control frame in fragments", 1002),
    ("a long ping", |key| raw(PING, &[0; 126], key), "a control frame of more than 125 bytes", 1002),
    ("a long close frame", |key| raw(CLOSE, &[3; 126], key), "a control frame of more than 125 bytes", 1002),
    ("125 in two bytes", |key| long(BINARY, key, 126, b"\0\x7d"), "a length of 125 bytes that is not written in as few bytes as possible", 1002),
    ("65535 in eight bytes", |key| long(BINARY, key, 127, b"\0\0\0\0\0\0\xff\xff"),
        "a length of 65535 bytes that is not written in as few bytes as possible", 1002),
    ("2**63", |key| long(BINARY, key, 127, b"\x80\0\0\0\0\0\0\0"), "a frame of 2**63 bytes or more", 1002),
    ("one byte too long", |key| long(BINARY, key, 127, &70_001_u64.to_be_bytes()), "a message of at least 70001 bytes: max_message is 70000", 1009),
    ("the longest length", |key| long(BINARY, key, 127, b"\x7f\xff\xff\xff\xff\xff\xff\xff"),
        "a message of at least 9223372036854775807 bytes: max_message is 70000", 1009),
    ("too long together", |key| [raw(2, b"1", key), raw(0, b"2", key), long(0x80, key, 127, &69_999_u64.to_be_bytes())].concat(),
        "a message of at least 70001 bytes: max_message is 70000", 1009),
    ("a fragment of nothing", |key| raw(0x80, b"x", key), "a fragment that continues no message", 1002),
    ("a fragment that goes on with nothing", |key| raw(0, b"x", key), "a fragment that continues no message", 1002),
    ("a message in a message", |key| [raw(1, b"a", key), raw(TEXT, b"b", key)].concat(), "a message within the fragments of another", 1002),
    ("half a close code", |key| raw(CLOSE, b"\x03", key), "a close frame with 1 byte of a close code, which has 2", 1002),
    ("close code 999", |key| raw(CLOSE, &close_payload(999, ""), key), "a close frame with the close code 999, which must not be sent", 1002),
    ("close code 1005", |key| raw(CLOSE, &close_payload(1005, ""), key), "a close frame with the close code 1005, which must not be sent", 1002),
    ("close code 1006", |key| raw(CLOSE, &close_payload(1006, ""), key), "a close frame with the close code 1006, which must not be sent", 1002),
    ("close code 5000", |key| raw(CLOSE, &close_payload(5000, ""), key), "a close frame with the close code 5000, which must not be sent", 1002),
    ("a reason that is no text", |key| raw(CLOSE, b"\x03\xe8\xff", key), "a close frame whose reason is not UTF-8", 1007),
    ("a surrogate", |key| raw(TEXT, b"a\xed\xa0\x80", key), "a text message that is not UTF-8", 1007),
    ("half a character", |key| raw(TEXT, b"a\xe2\x82", key), "a text message that is not UTF-8", 1007),
    ("half a character in fragments", |key| [raw(1, b"\xe2", key), raw(0x80, b"", key)].concat(), "a text message that is not UTF-8", 1007),
    ("a mask that should not be, or none", |key| raw(TEXT, b"x", if key.is_some() { None } else { Some(KEY) }), "", 1002),
    ("a ping without its mask, or with one", |key| raw(PING, b"x", if key.is_some() { None } else { Some(KEY) }), "", 1002),
];

#[test]
fn a_violation_is_told_in_the_last_frame_wherever_the_stream_is_cut() {
    for ((name, frames, text, code), client) in BROKEN.into_iter().flat_map(|row| [(row, false), (row, true)]) {
        let key = (!client).then_some(KEY);
        let stream = [raw(TEXT, b"before", key), raw(PING, b"1", key), frames(key), raw(TEXT, b"behind", key)].concat();
        let (seen, sent, is_closed) = assert_the_same_in_all_cuts(|| Socket::new(client, false), &stream, name);
        let masks = if client {
            "a frame with a mask: a server must not mask"
        } else {
            "a frame without a mask: a client must mask"
        };
        let last = close_payload(code, if text.is_empty() { masks } else { text });
        let right = vec![(TEXT, b"before".to_vec()), (PONG, b"1".to_vec()), (CLOSE, last)];
        assert_eq!((seen, sent, is_closed), (vec![self::text("before")], right, true), "{name}, as client: {client}");
    }
}

#[test]
fn a_compressed_message_that_is_none_is_told_in_the_last_frame_wherever_the_stream_is_cut() {
    let bomb = {
        let (mut bytes, settings) = (Vec::new(), Socket::new(false, true).settings);
        frame(Opcode::Binary, &vec![7; MAX + 1], &settings, None, &mut bytes);
        frames_of(&bytes, false)[0].1.clone()
    };
    let broken: [(u8, &[u8], &str, u16); 4] = [
        (0xc1, b"\x06", "a compressed message that cannot be decompressed", 1007),
        (0xc2, &bomb, "a compressed message of more than max_message=70000 bytes", 1009),
        (0xc9, b"", "a frame with reserved bits that mean nothing here", 1002),
        (0xc0, b"", "a frame with reserved bits that mean nothing here", 1002),
    ];
    for ((first, payload, text, code), client) in broken.into_iter().flat_map(|row| [(row, false), (row, true)]) {
        let stream = raw(first, payload, (!client).then_some(KEY));
        let (seen, sent, _) = assert_the_same_in_all_cuts(|| Socket::new(client, true), &stream, text);
        assert_eq!((seen, sent), (vec![], vec![(CLOSE, close_payload(code, text))]));
    }
}

#[test]
fn each_frame_of_a_client_has_a_mask_of_its_own_out_of_the_random_bytes_of_the_wire() {
    let mut socket = Socket::new(true, false);
    for random in [[9, 8, 7, 6], [0, 0, 0, 0], [0xff, 1, 0xff, 1]] {
        socket.wire.random = Some(random);
        socket.receive_frame(PING, b"there?");
        assert_eq!(frames_of(&socket.wire.sent(), true), [(PONG, b"there?".to_vec(), random)]);
    }
    socket.wire.random = Some([5, 6, 7, 8]);
    socket.socket.close(Farewell::new(4000), &mut socket.wire);
    socket.settle();
    assert_eq!(frames_of(&socket.wire.sent(), true), [(CLOSE, close_payload(4000, ""), [5, 6, 7, 8])]);
}

#[test]
fn a_client_sends_nothing_without_random_bytes_and_a_server_needs_none() {
    for (client, steps) in [(false, 0), (true, 0), (false, 1), (true, 1)] {
        let mut socket = Socket::new(client, false);
        socket.wire.random = None;
        if steps == 0 {
            socket.receive_frame(PING, b"there?");
        } else {
            socket.close_by(Closing::Stopping);
        }
        let ended = socket.wire.ended.clone();
        if client {
            assert_eq!((socket.sent(), ended), (vec![], Some(Ended::Aborted)));
        } else {
            assert_eq!((socket.sent().len(), ended), (1, (steps == 1).then_some(Ended::Closed)));
        }
    }
}

#[test]
fn the_machine_tells_how_much_input_it_needs() {
    let mut socket = Socket::new(false, false);
    assert_eq!((socket.socket.longest(), *socket.socket.callback()), (MAX + 14, "on_message"));
    let message = raw(BINARY, &[1; 300], Some(KEY));
    socket.receive(&message[..100]);
    assert_eq!(socket.socket.missing(&socket.wire.unread), 208);
    // A handler that takes over has its own limits; the message that began under the old limits is read to its end.
    let smaller = Settings { client: false, max_message: 20, deflate: None };
    socket.socket.go_on_with(Arc::new(smaller));
    assert_eq!(socket.socket.longest(), 300 + 14);
    socket.receive(&message[100..]);
    assert_eq!((&socket.seen[..], socket.socket.longest()), (&[Saw::Binary(vec![1; 300])][..], 125 + 14));
    socket.receive_frame(BINARY, &[1; 21]);
    let last = close_payload(1009, "a message of at least 21 bytes: max_message is 20");
    assert_eq!(socket.sent().last(), Some(&(CLOSE, last)));
}

#[test]
fn input_that_is_thrown_away_is_forgotten_with_what_was_found_in_it() {
    for input in [raw(TEXT, b"whole", Some(KEY)), raw(TEXT, b"half", Some(KEY))[..7].to_vec(), b"\xff\xff".to_vec()] {
        let mut socket = Socket::new(false, false);
        socket.wire.receive(&mut socket.socket, &input);
        socket.socket.forget();
        socket.wire.unread.clear();
        assert!(!socket.socket.has_news() && socket.socket.violation().is_none());
        socket.receive_frame(TEXT, b"next");
        assert_eq!(socket.seen, [text("next")]);
    }
}
