use std::fmt;
use std::sync::Arc;
use std::thread;

use attest::PlatformId;
use sim::{Firmware, Guest, Platform, Vendor};

use super::*;

type Report = dyn Fn(&[u8; 64]) -> io::Result<[u8; TdReport::LEN]> + Send + Sync;
type Serve = dyn Fn(Socket) -> io::Result<()> + Send + Sync;

/// A device and a service that do as they are told.
struct Fake {
    report: Box<Report>,
    /// Answers one guest, on a thread of its own. `None` if nobody is there.
    serve: Option<Arc<Serve>>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Machine for Fake {
    fn report(&self, report_data: &[u8; 64]) -> io::Result<[u8; TdReport::LEN]> {
        (self.report)(report_data)
    }

    fn connect(&self, _timeout: Duration) -> io::Result<Socket> {
        let serve = self.serve.clone().ok_or(io::ErrorKind::ConnectionReset)?;
        let (ours, theirs) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        // A guest that has heard enough goes, and what is written then fails.
        thread::spawn(move || serve(theirs));
        Ok(ours)
    }
}

impl Fake {
    fn guest(self) -> TdxGuest {
        TdxGuest { machine: Box::new(self), service_timeout: SERVICE_TIMEOUT }
    }
}

fn platform() -> Platform {
    let vendor = Vendor::from_seed(&[1; 32]).unwrap();
    vendor.platform(PlatformId::new([1; 16]), Firmware::Current).unwrap()
}

fn worker() -> Guest {
    Guest::of_image("worker")
}

/// A device that works.
fn device() -> Box<Report> {
    let platform = platform();
    Box::new(move |report_data| Ok(*platform.report(&worker(), report_data).as_bytes()))
}

fn fails(error: io::ErrorKind) -> Box<Report> {
    Box::new(move |_report_data| Err(error.into()))
}

/// A service that sends what `answer` makes of the report that it is sent.
fn service(answer: impl Fn(TdReport) -> Vec<u8> + Send + Sync + 'static) -> TdxGuest {
    let serve = move |mut socket: Socket| {
        let mut request = [0; 4 + 24 + TdReport::LEN];
        socket.read_exact(&mut request)?;
        assert_eq!(request[..4], 1048_u32.to_be_bytes());
        let report = TdReport::parse(&request[28..]).unwrap();
        assert_eq!(request[4..], quote_service::request(&report));
        socket.write_all(&answer(report))
    };
    Fake { report: device(), serve: Some(Arc::new(serve)) }.guest()
}

/// An answer as it is on the stream. `error` is zero if all went well.
fn answer(error: u32, quote: &[u8]) -> Vec<u8> {
    let quote_len = u32::try_from(quote.len()).unwrap();
    let len = 24 + quote_len;
    let numbers = [0x0001_0001, 1, len, error, 0, quote_len].map(u32::to_le_bytes);
    [&len.to_be_bytes(), numbers.as_flattened(), quote].concat()
}

fn quote(report_data: &[u8; 64]) -> Vec<u8> {
    platform().quote(&worker(), report_data).unwrap()
}

#[test]
fn a_quote_is_made_of_the_guest_s_report() {
    let whole = quote(&[7; 64]);
    // Kept, since signatures are never the same twice.
    let serve = |padding: usize| {
        let padded = [&whole[..], &vec![0; padding]].concat();
        service(move |report| {
            assert_eq!(report.report_data(), &[7; 64]);
            answer(0, &padded)
        })
    };
    assert!(serve(0).quote(&[7; 64]).unwrap() == whole);
    assert!(serve(100).quote(&[7; 64]).unwrap() == whole, "padding is left out");
    serve(0).probe().unwrap();
}

#[test]
fn a_quote_of_something_else_is_refused() {
    let other = service(|_report| answer(0, &quote(&[8; 64])));
    assert!(matches!(other.quote(&[7; 64]), Err(TdxGuestError::OtherQuote)));
    let none = service(|_report| answer(0, &[1; 5000]));
    assert!(matches!(none.quote(&[7; 64]), Err(TdxGuestError::OtherQuote)));
    // An enclave of the host is no guest, whatever it vouches for.
    let sgx = include_bytes!("../../../../spec/vectors/quotes/sgx_quote.dat");
    let of_enclave = service(|_report| answer(0, sgx));
    let vouched = *Quote::parse(sgx).unwrap().claims().measurements.report_data();
    assert!(matches!(of_enclave.quote(&vouched), Err(TdxGuestError::OtherQuote)));
}

#[test]
fn what_the_service_refuses_is_told() {
    let refusing = service(|_report| answer(0x12001, &[]));
    let refused = refusing.quote(&[7; 64]);
    assert!(
        matches!(refused, Err(TdxGuestError::Answer(AnswerError::Refused { code: 0x12001 }))),
        "{refused:?}"
    );
    let empty = service(|_report| answer(0, &[])).quote(&[7; 64]);
    assert!(matches!(empty, Err(TdxGuestError::Answer(AnswerError::Empty))), "{empty:?}");
}

#[test]
fn answers_have_the_length_that_they_say() {
    // The length on the stream is another one than that in the message.
    for (len, is_read) in [(5, true), (23, true), (24, true), (4000, true), (ANSWER_LEN_MAX + 1, false)] {
        let guest = service(move |_report| {
            let mut answer = answer(0, &[1; 40_000]);
            answer[..4].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
            answer
        });
        let refused = guest.quote(&[7; 64]);
        match refused {
            Err(TdxGuestError::Answer(AnswerError::CutOff { .. } | AnswerError::Length { .. }))
                if is_read => {}
            Err(TdxGuestError::Exchange(error)) if !is_read => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert!(error.to_string().contains("32808"), "{error}");
            }
            other => panic!("{len}: {other:?}"),
        }
    }
}

#[test]
fn a_service_that_hangs_up_gives_no_quote() {
    for len in [0, 3, 4, 30, 3000] {
        let cut = service(move |report| answer(0, &quote(report.report_data()))[..len].to_vec());
        let refused = cut.quote(&[7; 64]);
        let Err(TdxGuestError::Exchange(error)) = refused else { panic!("{len}: {refused:?}") };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_silent_service_is_left() {
    let silent = |mut socket: Socket| io::copy(&mut socket, &mut io::sink()).map(drop);
    let fake = Fake { report: device(), serve: Some(Arc::new(silent)) };
    let limit = Duration::from_millis(20);
    let guest = TdxGuest { service_timeout: limit, ..fake.guest() };
    assert!(matches!(guest.quote(&[7; 64]), Err(TdxGuestError::Slow { limit: found }) if found == limit));
}

/// However many bytes wait: a service that sends one after the other has no more time than one that sends none.
#[test]
fn after_its_time_a_stream_has_ended() {
    let (socket, mut other) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    other.write_all(&[1, 2]).unwrap();
    let now = Instant::now();
    let mut stream = Timed { socket, until: now + SERVICE_TIMEOUT };
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    stream.write_all(&byte).unwrap();
    stream.until = now;
    assert_eq!(stream.read_exact(&mut byte).unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(stream.write_all(&byte).unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn what_is_missing_is_named() {
    let with = |report| Fake { report, serve: None }.guest();
    let missing = with(fails(io::ErrorKind::NotFound)).quote(&[7; 64]).unwrap_err();
    assert!(matches!(missing, TdxGuestError::Missing), "{missing:?}");
    assert!(missing.to_string().contains("modprobe"), "{missing}");
    let denied = with(fails(io::ErrorKind::PermissionDenied)).report(&[7; 64]);
    assert!(matches!(denied, Err(TdxGuestError::Denied)), "{denied:?}");
    let failed = with(fails(io::ErrorKind::InvalidInput)).report(&[7; 64]);
    assert!(matches!(failed, Err(TdxGuestError::NotMade(_))), "{failed:?}");
    let alone = with(device());
    alone.report(&[7; 64]).unwrap();
    for refused in [alone.quote(&[7; 64]).map(drop), alone.probe()] {
        let Err(error @ TdxGuestError::Connect(_)) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains("vsock:2:4050"), "{error}");
    }
}

#[test]
fn a_report_of_something_else_is_refused() {
    let with = |report: Box<Report>| Fake { report, serve: None }.guest().report(&[7; 64]);
    let none = with(Box::new(|_report_data| Ok([0; TdReport::LEN])));
    assert!(matches!(none, Err(TdxGuestError::Report(_))), "{none:?}");
    let working = device();
    let other = with(Box::new(move |_report_data| working(&[8; 64])));
    assert!(matches!(other, Err(TdxGuestError::OtherReport)), "{other:?}");
    let good = with(device()).unwrap();
    assert_eq!(good.report_data(), &[7; 64]);
    assert!(platform().has_made(&good));
}

/// A sealer believes the device's reports as it does those of a simulated guest, since they are the same.
#[test]
fn reports_are_for_sealers() {
    let guest = Fake { report: device(), serve: None }.guest();
    let reports: &dyn LocalReports = &guest;
    assert!(platform().has_made(&reports.report(&[7; 64]).unwrap()));
    let none = Fake { report: fails(io::ErrorKind::NotFound), serve: None }.guest();
    let reports: &dyn LocalReports = &none;
    let error = reports.report(&[7; 64]).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("/dev/tdx_guest"));
}
