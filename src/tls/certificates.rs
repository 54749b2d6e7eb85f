//! PEM files and bytes as chains, keys and roots (RFC 7468).
//!
//! Each error names the argument and the file, and the line if one is to blame. No error contains a byte of a key.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys, RootCertStore};

use crate::error::Error;
use crate::tls::settings::provider;
use crate::tls::text;

/// An argument that holds certificates or a key in PEM.
#[derive(Clone)]
pub struct Pem {
    argument: String,
    source: Source,
}

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Pem {
    /// The contents of a file. Each reload reads it again.
    pub fn file(argument: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { argument: argument.into(), source: Source::File(path.into()) }
    }

    /// Bytes in memory.
    pub fn bytes(argument: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { argument: argument.into(), source: Source::Bytes(bytes.into()) }
    }

    /// The path as text for people, or `None` for bytes.
    pub fn path(&self) -> Option<String> {
        match &self.source {
            Source::File(path) => Some(path.display().to_string()),
            Source::Bytes(_) => None,
        }
    }

    fn read(&self) -> Result<Vec<u8>, Error> {
        match &self.source {
            Source::File(path) => std::fs::read(path).map_err(Error::io(format!("cannot read {self}"))),
            Source::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    fn wrong(&self, text: impl fmt::Display) -> Error {
        Error::argument(format!("{self} {text} [GOEV704]"))
    }

    fn wrong_at(&self, line: usize, text: impl fmt::Display) -> Error {
        Error::argument(format!("{self}, line {line}: {text} [GOEV704]"))
    }

    /// The arguments of an openssl command that reads this and writes what goev takes.
    fn conversion(&self) -> String {
        let path = self.path().unwrap_or_else(|| "FILE".into());
        format!("-in {path} -out {path}.pem")
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::File(path) => write!(to, "{} {:?}", self.argument, path.display().to_string()),
            Source::Bytes(_) => write!(to, "{} (bytes)", self.argument),
        }
    }
}

/// A part of PEM text, from its line `BEGIN` to its line `END`.
struct Section<'a> {
    label: String,
    /// The number of its first line, from 1.
    line: usize,
    text: &'a [u8],
}

/// A section that was decoded: its kind, or `None` for a kind that has no use here.
struct Decoded {
    kind: Option<SectionKind>,
    label: String,
    line: usize,
    der: Vec<u8>,
}

/// All sections of the text, at least one.
fn sections<'a>(pem: &Pem, text: &'a [u8]) -> Result<Vec<Section<'a>>, Error> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize)> = None;
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        let start = at;
        at += line.len();
        let line = line.trim_ascii_end();
        if let Some(label) = label_of(line, b"-----BEGIN ") {
            if let Some((outer, first, _)) = open {
                return Err(pem.wrong_at(first, format_args!("the section {outer} has no end")));
            }
            open = Some((label, number, start));
        } else if let Some(end) = label_of(line, b"-----END ") {
            match open.take() {
                Some((label, first, start)) if label == end => {
                    found.push(Section { label, line: first, text: &text[start..at] });
                }
                Some((label, ..)) => {
                    return Err(pem.wrong_at(number, format_args!("the section {label} ends as {end}")));
                }
                None => return Err(pem.wrong_at(number, format_args!("the section {end} has no beginning"))),
            }
        }
    }
    if let Some((label, first, _)) = open {
        return Err(pem.wrong_at(first, format_args!("the section {label} has no end")));
    }
    if found.is_empty() {
        return Err(pem.wrong(without_sections(pem, text)));
    }
    Ok(found)
}

fn label_of(line: &[u8], prefix: &[u8]) -> Option<String> {
    let label = line.strip_prefix(prefix)?.strip_suffix(b"-----")?;
    Some(label.escape_ascii().to_string())
}

/// The reason why text without sections is no PEM.
fn without_sections(pem: &Pem, text: &[u8]) -> String {
    match text {
        [] => "is empty".into(),
        // A SEQUENCE of ASN.1.
        [0x30, 0x80..=0x84, ..] => format!(
            "is DER, not PEM. To convert a certificate: openssl x509 {command}; a key: openssl pkey {command}; a .p12 or \
             .pfx file: openssl pkcs12 -nodes {command};",
            command = pem.conversion()
        ),
        _ => "is not PEM: no line is \"-----BEGIN …-----\"".into(),
    }
}

fn decode(pem: &Pem, section: Section<'_>) -> Result<Decoded, Error> {
    let Section { label, line, text } = section;
    check_encryption(pem, &label, text)?;
    match <(SectionKind, Vec<u8>)>::pem_slice_iter(text).next() {
        Some(Ok((kind, der))) => Ok(Decoded { kind: Some(kind), label, line, der }),
        Some(Err(_)) => Err(pem.wrong_at(line, format_args!("the section {label} is not base64"))),
        None => Ok(Decoded { kind: None, label, line, der: Vec::new() }),
    }
}

/// Returns an error for a key that is encrypted: in PKCS #8 (RFC 5958), or in the old format (RFC 1421).
fn check_encryption(pem: &Pem, label: &str, text: &[u8]) -> Result<(), Error> {
    let is_old = || text.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"Proc-Type: 4,ENCRYPTED"));
    if label != "ENCRYPTED PRIVATE KEY" && !(label.ends_with("PRIVATE KEY") && is_old()) {
        return Ok(());
    }
    Err(pem.wrong(format_args!(
        "holds an encrypted key, and goev asks for no password. To decrypt it: openssl pkey {};",
        pem.conversion()
    )))
}

fn decoded(pem: &Pem) -> Result<Vec<Decoded>, Error> {
    let text = pem.read()?;
    sections(pem, &text)?.into_iter().map(|section| decode(pem, section)).collect()
}

/// The error for a file that holds other sections than those it is for.
fn holds_none(pem: &Pem, missing: &str, sections: &[Decoded]) -> Error {
    let labels: Vec<_> = sections.iter().take(5).map(|section| section.label.as_str()).collect();
    pem.wrong(format_args!("holds no {missing}, but {}", labels.join(", ")))
}

/// A certificate with the line where it begins.
type Certificate = (usize, CertificateDer<'static>);

fn certificates(pem: &Pem) -> Result<Vec<Certificate>, Error> {
    let mut sections = decoded(pem)?;
    if !sections.iter().any(|section| section.kind == Some(SectionKind::Certificate)) {
        return Err(holds_none(pem, "certificate", &sections));
    }
    sections.retain(|section| section.kind == Some(SectionKind::Certificate));
    let certificates: Vec<_> = sections.into_iter().map(|section| (section.line, section.der.into())).collect();
    for (line, certificate) in &certificates {
        if let Err(error) = ParsedCertificate::try_from(certificate) {
            return Err(pem.wrong_at(*line, text::failure(&error)));
        }
    }
    Ok(certificates)
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, Error> {
    let mut sections = decoded(pem)?;
    let place = sections.iter().position(|section| {
        use SectionKind::{EcPrivateKey, PrivateKey, RsaPrivateKey};
        matches!(section.kind, Some(EcPrivateKey | PrivateKey | RsaPrivateKey))
    });
    let Some(place) = place else { return Err(holds_none(pem, "private key", &sections)) };
    let section = sections.swap_remove(place);
    Ok(match section.kind {
        Some(SectionKind::RsaPrivateKey) => PrivateKeyDer::Pkcs1(section.der.into()),
        Some(SectionKind::EcPrivateKey) => PrivateKeyDer::Sec1(section.der.into()),
        _ => PrivateKeyDer::Pkcs8(section.der.into()),
    })
}

/// A chain, the owner's certificate first, with the key of that certificate.
pub fn pair(certificate: &Pem, key: &Pem) -> Result<Arc<CertifiedKey>, Error> {
    let certificates = certificates(certificate)?;
    let signer = provider().key_provider.load_private_key(private_key(key)?).map_err(|_| {
        key.wrong("holds a key of a kind that has no use: RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, and Ed25519 have")
    })?;
    let is_of = |one: &Certificate| {
        let alone = CertifiedKey::new(vec![one.1.clone()], signer.clone());
        !matches!(alone.keys_match(), Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)))
    };
    if !certificates.first().is_some_and(is_of) {
        return Err(match certificates.iter().find(|one| is_of(one)) {
            Some((line, _)) => {
                certificate.wrong_at(*line, format_args!("the certificate of {key} has to be the first"))
            }
            None => key.wrong(format_args!("is not the key of {certificate}")),
        });
    }
    let chain = certificates.into_iter().map(|(_, certificate)| certificate).collect();
    Ok(CertifiedKey::new(chain, signer).into())
}

/// The roots that are trusted, and the same as certificates.
pub struct Roots {
    /// The roots, as rustls takes them.
    pub store: Arc<RootCertStore>,
    /// The certificates as they are.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// The certificates of CAs, at least one.
pub fn roots(pem: &Pem) -> Result<Roots, Error> {
    let mut store = RootCertStore::empty();
    let certificates = certificates(pem)?;
    for (line, certificate) in &certificates {
        store.add(certificate.clone()).map_err(|error| pem.wrong_at(*line, text::failure(&error)))?;
    }
    let certificates = certificates.into_iter().map(|(_, certificate)| certificate).collect();
    Ok(Roots { store: store.into(), certificates })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Self-signed by `openssl req -x509`, thus marked as one of a CA. For a.example, until 2126.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBjDCCATGgAwIBAgIUYz747dHwvQBP5tXlsPQcw4/kfZowCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjkxMDI2NTBaGA8yMTI2MTEwNTEwMjY1
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLda
eIbOgLW1dBmEJfzfpRJrdA6nTDbrlpBcPB/BkwkM1k++7WleKGpvCds8vqOEmHeB
sLooF1K4Pr5AKcOdinGjaTBnMB0GA1UdDgQWBBRjO433LFaW1gY8OKVbbQ6cTUBg
MjAfBgNVHSMEGDAWgBRjO433LFaW1gY8OKVbbQ6cTUBgMjAPBgNVHRMBAf8EBTAD
AQH/MBQGA1UdEQQNMAuCCWEuZXhhbXBsZTAKBggqhkjOPQQDAgNJADBGAiEA08Fv
MOHVQDWvRIgeoqoeVIFk/i9e76EmcsHnn+WXMtMCIQCcpw/PgLavvumP1UnCewmc
pRXKyL2fGQ57Hwokx3+5Ug==
-----END CERTIFICATE-----
";
    /// The same with the same key for *.b.example.
    const WILDCARD: &str = "\
-----BEGIN CERTIFICATE-----
MIIBjTCCATOgAwIBAgIUT62vmIr0a9tSYJHiwljtJvnYZkUwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEd2lsZDAgFw0yNjExMjkxMDQxMTlaGA8yMTI2MTEwNTEwNDEx
OVowDzENMAsGA1UEAwwEd2lsZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLda
eIbOgLW1dBmEJfzfpRJrdA6nTDbrlpBcPB/BkwkM1k++7WleKGpvCds8vqOEmHeB
sLooF1K4Pr5AKcOdinGjazBpMB0GA1UdDgQWBBRjO433LFaW1gY8OKVbbQ6cTUBg
MjAfBgNVHSMEGDAWgBRjO433LFaW1gY8OKVbbQ6cTUBgMjAPBgNVHRMBAf8EBTAD
AQH/MBYGA1UdEQQPMA2CCyouYi5leGFtcGxlMAoGCCqGSM49BAMCA0gAMEUCIQDJ
LPJ4QJKuWp/sdyGYIVrqTa0nOXWZf9SHg3Il2sISogIgJNQHZ+66qbjvdbALubBY
kerRzZF8ZtcNKSqX00z6H0I=
-----END CERTIFICATE-----
";
    const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcfHL5UQSV/TTxkHs
tRo+02xor3RWElKFYCTSIlXNqOahRANCAAS3WniGzoC1tXQZhCX836USa3QOp0w2
65aQXDwfwZMJDNZPvu1pXihqbwnbPL6jhJh3gbC6KBdSuD6+QCnDnYpx
-----END PRIVATE KEY-----
";

    pub(crate) fn certificate() -> Pem {
        Pem::bytes("certificate", CERTIFICATE)
    }

    pub(in crate::tls) fn wildcard() -> Pem {
        Pem::bytes("certificate", WILDCARD)
    }

    pub(crate) fn key() -> Pem {
        Pem::bytes("key", KEY)
    }

    fn error_of(certificate: &str, key: &str) -> String {
        let error = pair(&Pem::bytes("certificate", certificate), &Pem::bytes("key", key)).expect_err("refused");
        error.to_string().strip_suffix(" [GOEV704]").expect("its code").to_owned()
    }

    #[test]
    fn text_around_sections_and_the_ends_of_windows_lines_do_no_harm() {
        let windows = format!("\u{feff}{}", CERTIFICATE.replace('\n', "\r\n"));
        let talk = format!(
            "Bag Attributes\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{KEY}"
        );
        let pair = pair(&Pem::bytes("certificate", windows), &Pem::bytes("key", talk)).expect("valid");
        assert_eq!(pair.cert.len(), 1);
    }

    #[test]
    fn errors_name_the_line() {
        let cut = &CERTIFICATE[..CERTIFICATE.len() - 30];
        assert_eq!(
            error_of(&format!("\n{cut}"), KEY),
            "certificate (bytes), line 2: the section CERTIFICATE has no end"
        );
        let changed = CERTIFICATE.replacen("MIIB", "M!IB", 1);
        assert_eq!(error_of(&changed, KEY), "certificate (bytes), line 1: the section CERTIFICATE is not base64");
        let malformed = CERTIFICATE.replacen("MIIB", "MIIC", 1);
        let text = error_of(&format!("{CERTIFICATE}{malformed}"), KEY);
        assert_eq!(text, "certificate (bytes), line 12: the certificate is malformed");
        let text = error_of("-----END CERTIFICATE-----", KEY);
        assert_eq!(text, "certificate (bytes), line 1: the section CERTIFICATE has no beginning");
        let text = error_of("-----BEGIN A-----\n-----END B-----", KEY);
        assert_eq!(text, "certificate (bytes), line 2: the section A ends as B");
        let text = error_of("-----BEGIN A-----\n-----BEGIN B-----", KEY);
        assert_eq!(text, "certificate (bytes), line 1: the section A has no end");
    }

    #[test]
    fn no_error_shows_a_byte_of_a_key() {
        for wrong in
            [KEY.replacen("MIGH", "MI!H", 1), KEY[30..].into(), KEY[..80].into(), KEY.replacen("MIGH", "MIGI", 1)]
        {
            let text = error_of(CERTIFICATE, &wrong);
            assert!(KEY.lines().all(|line| line.starts_with('-') || !text.contains(&line[4..])), "{text}");
        }
    }

    #[test]
    fn each_kind_of_wrong_text_has_its_error() {
        for (certificate, key, text) in [
            ("", KEY, "certificate (bytes) is empty"),
            ("hello", KEY, "certificate (bytes) is not PEM"),
            (KEY, KEY, "certificate (bytes) holds no certificate, but PRIVATE KEY"),
            (CERTIFICATE, CERTIFICATE, "key (bytes) holds no private key, but CERTIFICATE"),
            ("\x30\u{82}", KEY, "certificate (bytes) is not PEM"),
        ] {
            assert!(error_of(certificate, key).starts_with(text), "{}", error_of(certificate, key));
        }
        let error = pair(&Pem::bytes("certificate", [0x30, 0x82, 1, 2]), &key()).expect_err("refused").to_string();
        assert!(error.contains("DER") && error.contains("openssl x509 -in FILE -out FILE.pem"), "{error}");
    }
}
