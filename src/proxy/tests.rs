//! Headers cut everywhere, wrong ones, and random ones.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

const LONG_V6: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

fn inet(text: &str) -> Place {
    Place::Inet(text.parse().expect(text))
}

/// A header of version 2 with these bytes behind the length.
fn binary(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
    let length = (behind.len() as u16).to_be_bytes();
    [binary::SIGNATURE, &[command, family, length[0], length[1]], behind].concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u16).to_be_bytes();
    [&[kind, length[0], length[1]], value].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 80];

fn v4_with(fields: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&V4, fields].concat())
}

/// A header that is right: its name here, its bytes, and its ends.
type Right = (&'static str, Vec<u8>, Option<(Place, Place)>);

fn right_headers() -> Vec<Right> {
    let line = |text: &str| text.as_bytes().to_vec();
    let worst = format!("PROXY UNKNOWN {LONG_V6} {LONG_V6} 65535 65535\r\n");
    assert_eq!(worst.len(), 107);
    let v4 = Some((inet("192.0.2.1:12345"), inet("192.0.2.2:80")));
    let v6 = Some((inet("[2001:db8::1]:12345"), inet("[2001:db8::2]:80")));
    let v6_bytes = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1, 0x20, 1, 0xd, 0xb8], &[0; 11], &[2], &V4[8..]].concat();
    let mut paths = vec![0; 216];
    paths[..9].copy_from_slice(b"/run/here");
    paths[109..114].copy_from_slice(b"there");
    let unix = Some((Place::Unix(b"/run/here".to_vec()), Place::Unix(b"\0there".to_vec())));
    vec![
        ("TCP4", line("PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n"), v4.clone()),
        ("TCP6", line("PROXY TCP6 2001:db8::1 2001:DB8::2 12345 80\r\n"), v6.clone()),
        ("mapped", line("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 12345 80\r\n"), v4.clone()),
        ("port 0", line("PROXY TCP4 0.0.0.0 0.0.0.0 0 65535\r\n"), Some((inet("0.0.0.0:0"), inet("0.0.0.0:65535")))),
        ("UNKNOWN", line("PROXY UNKNOWN\r\n"), None),
        ("UNKNOWN with more words than any other", line("PROXY UNKNOWN a b  c d e f g\r\n"), None),
        ("the longest line", worst.into_bytes(), None),
        ("IPv4", v4_with(b""), v4.clone()),
        ("UDP", binary(0x21, 0x12, &V4), v4.clone()),
        ("IPv6", binary(0x21, 0x21, &v6_bytes), v6),
        ("Unix", binary(0x21, 0x31, &paths), unix),
        ("LOCAL", binary(0x20, 0x00, b""), None),
        ("LOCAL with addresses", binary(0x20, 0x11, &V4), None),
        ("LOCAL with anything", binary(0x20, 0xff, b"\x01\xff\xff..."), None),
        ("LOCAL with short addresses", binary(0x20, 0x21, &V4), None),
        ("no family", binary(0x21, 0x00, b"\x01\xff\xff..."), None),
        ("no transport", binary(0x21, 0x10, &V4), None),
        ("fields", v4_with(&[field(1, b"h2"), field(4, &[0; 9]), field(0xe0, b"")].concat()), v4.clone()),
        ("the longest", v4_with(&field(4, &[7; 4096 - 12 - 3])), v4),
    ]
}

#[test]
fn a_header_is_whole_at_its_last_byte_and_takes_nothing_behind_it() {
    for (name, bytes, ends) in right_headers() {
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{name}, cut at {cut}");
        }
        for behind in [&b""[..], b"\r\n", b"PROXY TCP4 ", &[0; 5000]] {
            let (header, length) = parse(&[&bytes, behind].concat()).expect(name).expect(name);
            assert_eq!((length, &header.ends), (bytes.len(), &ends), "{name}");
        }
    }
}

#[test]
fn a_wrong_header_is_told_as_soon_as_it_can_be() {
    let words = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    let mut version_1 = binary(0x21, 0x11, &V4);
    version_1[12] = 0x11;
    let mut long = binary(0x21, 0x11, &V4);
    (long[14], long[15]) = (0x10, 0x01);
    let wrong = [
        (b"GET / HTTP/1.1\r\n".to_vec(), "GET / HTTP/1.1"),
        (vec![0x16], "\\x16"),
        (b"PROXZ".to_vec(), "PROXZ"),
        (b"proxy TCP4".to_vec(), "proxy"),
        (b"PROXY\tTCP4".to_vec(), "PROXY\\t"),
        (b"\r\n\r\n\0\r\nQUIX".to_vec(), "no PROXY header"),
        (words("TCP5 192.0.2.1 192.0.2.2 1 2"), "TCP5"),
        (words("tcp4 192.0.2.1 192.0.2.2 1 2"), "tcp4"),
        (words("UNKNOWNS"), "UNKNOWNS"),
        (words(""), "protocol \"\""),
        (words("TCP4"), "0 words"),
        (words("TCP4 192.0.2.1 192.0.2.2 1"), "3 words"),
        (words("TCP4 192.0.2.1 192.0.2.2 1 2 3"), "5 words"),
        (words("TCP4 192.0.2.1 192.0.2.2 1 2 "), "5 words"),
        (words("TCP4  192.0.2.1 192.0.2.2 1 2"), "5 words"),
        (words("TCP4 ::1 ::1 1 2"), "::1"),
        (words("TCP6 192.0.2.1 192.0.2.2 1 2"), "192.0.2.1"),
        (words("TCP4 192.0.2.01 192.0.2.2 1 2"), "192.0.2.01"),
        (words("TCP4 192.0.2 192.0.2.2 1 2"), "192.0.2"),
        (words("TCP6 fe80::1%eth0 ::1 1 2"), "eth0"),
        (words("TCP4 192.0.2.1 192.0.2.2 +1 2"), "+1"),
        (words("TCP4 192.0.2.1 192.0.2.2 01 2"), "01"),
        (words("TCP4 192.0.2.1 192.0.2.2 1 65536"), "65536"),
        (words("TCP4 192.0.2.1 192.0.2.2 1 -2"), "-2"),
        (words("TCP4 192.0.2.1 192.0.2.2 1 \u{661}"), "port"),
        (b"PROXY UNKNOWN\n".to_vec(), "CR LF"),
        (b"PROXY UNKNOWN\rx".to_vec(), "CR LF"),
        (b"PROXY UNKNOWN\r\r\n".to_vec(), "CR LF"),
        ([b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 93]].concat(), "107"),
        ([b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 92], b"\r\n".to_vec()].concat(), "107"),
        (version_1[..13].to_vec(), "0x11"),
        (binary(0x22, 0x11, &V4), "0x22"),
        (binary(0x21, 0x41, &V4), "0x41"),
        (binary(0x21, 0x13, &V4), "0x13"),
        (binary(0x21, 0x11, &V4[..11]), "11 bytes of addresses, not 12"),
        (binary(0x21, 0x21, &V4), "12 bytes of addresses, not 36"),
        (binary(0x21, 0x31, &V4), "not 216"),
        (long[..16].to_vec(), "4097"),
        (v4_with(&[1]), "a field that is cut"),
        (v4_with(&[1, 0]), "a field that is cut"),
        (v4_with(&[1, 0, 1]), "a field that is cut"),
        (v4_with(&[field(1, b"h2"), vec![2, 0, 9, 1]].concat()), "a field that is cut"),
        (v4_with(&field(kind::CRC32C, &[1, 2, 3, 4])), "CRC32C"),
        (v4_with(&field(kind::CRC32C, &[1, 2, 3])), "CRC32C"),
        (binary(0x20, 0x00, &field(kind::CRC32C, &[0; 4])), "CRC32C"),
        (v4_with(&field(kind::TLS, &[1, 0, 0, 0])), "TLS"),
        (v4_with(&field(kind::TLS, &[1, 0, 0, 0, 0, 0x21])), "TLS"),
    ];
    for (bytes, hint) in wrong {
        let found = parse(&bytes).expect_err(&format!("{:?}", String::from_utf8_lossy(&bytes)));
        assert!(found.to_string().contains(hint), "{found}; {hint}");
    }
}

#[test]
fn a_checksum_covers_every_byte() {
    let mut header = v4_with(&[field(kind::ALPN, b"h2"), field(kind::CRC32C, &[0; 4]), field(5, b"id")].concat());
    let at = 16 + 12 + 5 + 3;
    assert!(parse(&header).is_err());
    let sum = known_sum(&header, at);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    let (parsed, _) = parse(&header).expect("right").expect("whole");
    assert_eq!(parsed.field(kind::UNIQUE_ID), Some(&b"id"[..]));
    for changed in 16..header.len() {
        let mut wrong = header.clone();
        wrong[changed] ^= 1;
        assert!(!matches!(parse(&wrong), Ok(Some((header, _))) if header.field(kind::CRC32C).is_some()), "{changed}");
    }
}

/// CRC32C by its definition, bit by bit, with zeros in the place of the sum.
fn known_sum(header: &[u8], at: usize) -> u32 {
    let mut sum = !0_u32;
    for (place, byte) in header.iter().enumerate() {
        sum ^= u32::from(if (at..at + 4).contains(&place) { 0 } else { *byte });
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}

#[test]
fn the_fields_say_what_the_proxy_knows() {
    let inner =
        [field(0x21, b"TLSv1.3"), field(0x22, b"joe"), field(0x23, b"CIPHER"), field(0x24, b"S"), field(0x25, b"K")];
    let about = |flags: u8, verify: u8| [&[flags, 0, 0, 0, verify][..], &inner.concat()].concat();
    let header = |flags, verify| {
        let fields = [field(1, b"h2"), field(2, b"a.example"), field(kind::TLS, &about(flags, verify)), field(1, b"x")];
        parse(&v4_with(&fields.concat())).expect("right").expect("whole").0
    };
    let whole = header(0x03, 0);
    assert_eq!((whole.field(kind::ALPN), whole.field(kind::AUTHORITY)), (Some(&b"h2"[..]), Some(&b"a.example"[..])));
    assert_eq!(whole.fields.len(), 4);
    let tls = whole.tls().expect("TLS");
    assert_eq!(
        (tls.version, tls.common_name, tls.cipher),
        (Some(&b"TLSv1.3"[..]), Some(&b"joe"[..]), Some(&b"CIPHER"[..]))
    );
    assert_eq!((tls.signature_algorithm, tls.key_algorithm), (Some(&b"S"[..]), Some(&b"K"[..])));
    let judged = |flags, verify| header(flags, verify).tls().map(|tls| (tls.has_certificate(), tls.is_verified()));
    assert_eq!(judged(0x03, 0), Some((true, true)));
    assert_eq!(judged(0x05, 0), Some((true, true)));
    assert_eq!(judged(0x03, 1), Some((true, false)));
    assert_eq!(judged(0x01, 0), Some((false, false)));
    assert_eq!(judged(0x00, 0), None);
}

#[test]
fn a_header_to_send_names_the_ends() {
    let address = |text: &str| text.parse::<SocketAddr>().expect(text);
    let text = |source: &str, destination: &str| {
        let ends = Named::Given(Some((address(source), address(destination))));
        let bytes = Announcement { version: Version::One, ends }.bytes(|| None);
        String::from_utf8(bytes).expect("text")
    };
    assert_eq!(text("192.0.2.1:1", "192.0.2.2:65535"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n");
    assert_eq!(text("[::1]:1", "[2001:db8::2]:2"), "PROXY TCP6 ::1 2001:db8::2 1 2\r\n");
    assert_eq!(text("192.0.2.1:1", "[::1]:2"), "PROXY TCP6 ::ffff:c000:201 ::1 1 2\r\n");
    let nothing = |version, ends| Announcement { version, ends }.bytes(|| None);
    assert_eq!(nothing(Version::One, Named::Own), b"PROXY UNKNOWN\r\n");
    assert_eq!(nothing(Version::Two, Named::Given(None)), binary(0x20, 0x00, b""));
    let own = || Some((address("192.0.2.1:12345"), address("192.0.2.2:80")));
    assert_eq!(Announcement { version: Version::Two, ends: Named::Own }.bytes(own), v4_with(b""));
}

proptest! {
    #[test]
    fn a_header_that_was_sent_is_read_as_it_was(
        source: SocketAddr, destination: SocketAddr, is_binary: bool, cut: prop::sample::Index
    ) {
        let version = if is_binary { Version::Two } else { Version::One };
        let ends = Named::Given(Some((source, destination)));
        let bytes = Announcement { version, ends }.bytes(|| None);
        prop_assert_eq!(parse(&bytes[..cut.index(bytes.len())]), Ok(None));
        let (header, length) = parse(&bytes)?.expect("whole");
        let place = |end: SocketAddr| Place::inet(end.ip(), end.port());
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!((header.version, header.ends), (version, Some((place(source), place(destination)))));
    }

    /// Neither a panic, nor a header that is whole twice, nor one that becomes wrong when more comes.
    #[test]
    fn bytes_mean_the_same_in_every_cut(
        start in prop::sample::select(right_headers()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        behind in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = [start.1, behind].concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = parse(&bytes);
        for cut in 0..bytes.len() {
            match parse(&bytes[..cut]) {
                Ok(None) => {}
                Ok(Some((header, length))) => {
                    prop_assert!(length <= cut);
                    prop_assert_eq!(&whole, &Ok(Some((header, length))));
                }
                Err(_) => prop_assert!(whole.is_err()),
            }
        }
    }
}
