use std::cell::RefCell;
use std::collections::BTreeMap;

use attest::PlatformId;
use sim::{Firmware, Guest, Platform, Vendor};

use super::*;

type Sign = dyn Fn(&[u8; 64]) -> io::Result<Vec<u8>>;

/// A kernel that answers like configfs-tsm.
struct FakeKernel {
    provider: &'static str,
    sign: Box<Sign>,
    auxiliary: Option<Vec<u8>>,
    /// What making a folder says.
    make: Option<io::Error>,
    /// How many answers are followed by somebody else's question.
    disturbances: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    folders: BTreeMap<String, Folder>,
    disturbed: usize,
    asked: usize,
}

#[derive(Default)]
struct Folder {
    inblob: Option<[u8; 64]>,
    generation: u64,
}

fn none() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl FakeKernel {
    fn new(provider: &'static str) -> Self {
        Self {
            provider,
            sign: Box::new(|report_data| Ok(report_data.to_vec())),
            auxiliary: None,
            make: None,
            disturbances: 0,
            state: RefCell::default(),
        }
    }

    fn report(&self) -> Result<TsmReport, TsmError> {
        let outcome = report(self, Path::new("/reports"), &[7; 64]);
        assert!(self.state.borrow().folders.is_empty(), "every folder is removed");
        outcome
    }

    fn asked(&self) -> usize {
        self.state.borrow().asked
    }
}

impl Kernel for FakeKernel {
    fn make(&self, name: &str) -> io::Result<()> {
        if let Some(error) = &self.make {
            return Err(error
                .raw_os_error()
                .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error));
        }
        let old = self.state.borrow_mut().folders.insert(name.to_owned(), Folder::default());
        assert!(old.is_none(), "{name} is there twice");
        Ok(())
    }

    fn write(&self, name: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(attribute, "inblob");
        let mut state = self.state.borrow_mut();
        state.asked += 1;
        let folder = state.folders.get_mut(name).ok_or_else(none)?;
        folder.inblob =
            Some(bytes.try_into().map_err(|_length| io::Error::from(io::ErrorKind::InvalidInput))?);
        folder.generation += 1;
        Ok(())
    }

    fn read(&self, name: &str, attribute: &str) -> io::Result<Vec<u8>> {
        let mut state = self.state.borrow_mut();
        let State { folders, disturbed, .. } = &mut *state;
        let folder = folders.get_mut(name).ok_or_else(none)?;
        match attribute {
            "provider" => Ok(format!("{}\n", self.provider).into_bytes()),
            "generation" => Ok(format!("{}\n", folder.generation).into_bytes()),
            "outblob" => {
                let report_data = folder.inblob.ok_or(io::ErrorKind::InvalidInput)?;
                if *disturbed < self.disturbances {
                    *disturbed += 1;
                    folder.generation += 1;
                }
                (self.sign)(&report_data)
            }
            "auxblob" => self.auxiliary.clone().ok_or_else(none),
            other => panic!("{other} is no attribute"),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state.borrow_mut().folders.remove(name).map(drop).ok_or_else(none)
    }
}

fn platform() -> Platform {
    let vendor = Vendor::from_seed(&[1; 32]).unwrap();
    vendor.platform(PlatformId::new([1; 16]), Firmware::Current).unwrap()
}

#[test]
fn reports_of_both_providers_are_read() {
    let tdx = FakeKernel::new("tdx_guest").report().unwrap();
    assert_eq!(tdx, TsmReport { provider: Provider::Tdx, report: vec![7; 64], auxiliary: vec![] });
    let snp = FakeKernel { auxiliary: Some(vec![1, 2]), ..FakeKernel::new("sev_guest") }.report().unwrap();
    assert_eq!(snp, TsmReport { provider: Provider::Snp, report: vec![7; 64], auxiliary: vec![1, 2] });
    let other = FakeKernel::new("arm_cca_guest").report();
    assert!(matches!(other, Err(TsmError::Unknown { attribute: "provider", .. })), "{other:?}");
}

#[test]
fn a_report_is_asked_for_again_while_somebody_else_writes() {
    let quiet = FakeKernel::new("tdx_guest");
    quiet.report().unwrap();
    assert_eq!(quiet.asked(), 1);
    let busy = FakeKernel { disturbances: ATTEMPTS - 1, ..FakeKernel::new("tdx_guest") };
    busy.report().unwrap();
    assert_eq!(busy.asked(), ATTEMPTS);
    let hopeless = FakeKernel { disturbances: ATTEMPTS, ..FakeKernel::new("tdx_guest") };
    assert!(matches!(hopeless.report(), Err(TsmError::Disturbed)));
    assert_eq!(hopeless.asked(), ATTEMPTS);
}

#[test]
fn what_is_missing_is_named() {
    let with = |error: io::Error| FakeKernel { make: Some(error), ..FakeKernel::new("tdx_guest") }.report();
    let missing = with(none()).unwrap_err();
    assert!(matches!(missing, TsmError::Missing { .. }));
    assert!(missing.to_string().contains("/reports"), "{missing}");
    assert!(matches!(with(io::Error::from_raw_os_error(ENXIO)), Err(TsmError::NoProvider)));
    assert!(matches!(with(io::ErrorKind::PermissionDenied.into()), Err(TsmError::Denied { .. })));
    let taken = with(io::ErrorKind::AlreadyExists.into());
    assert!(matches!(taken, Err(TsmError::Attribute { attribute: "the folder", .. })));
    let unsigned = FakeKernel {
        sign: Box::new(|_| Err(io::ErrorKind::TimedOut.into())),
        ..FakeKernel::new("tdx_guest")
    };
    assert!(matches!(unsigned.report(), Err(TsmError::NotMade(_))));
}

#[test]
fn reports_have_a_bound() {
    let of = |len| {
        FakeKernel { sign: Box::new(move |_| Ok(vec![0; len])), ..FakeKernel::new("tdx_guest") }.report()
    };
    assert!(of(LEN_MAX).is_ok());
    assert!(matches!(of(LEN_MAX + 1), Err(TsmError::TooLong { attribute: "outblob" })));
}

#[test]
fn evidence_is_what_vouches_for_the_question() {
    let simulated = platform();
    let kernel = FakeKernel {
        sign: Box::new(move |report_data| {
            let quote = simulated.quote(&Guest::of_image("worker"), report_data).unwrap();
            Ok([quote, vec![0; 100]].concat())
        }),
        ..FakeKernel::new("tdx_guest")
    };
    let report = kernel.report().unwrap();
    let quote = evidence_of(&report, &[7; 64]).unwrap();
    assert_eq!(quote.len() + 100, report.report.len(), "padding is left out");
    assert!(matches!(
        evidence_of(&report, &[8; 64]),
        Err(TsmError::OtherEvidence { provider: Provider::Tdx })
    ));
    let none = TsmReport { report: vec![1; 100], ..report.clone() };
    assert!(matches!(evidence_of(&none, &[7; 64]), Err(TsmError::OtherEvidence { provider: Provider::Tdx })));
    let not_snp = TsmReport { provider: Provider::Snp, ..report };
    let refused = evidence_of(&not_snp, &[7; 64]);
    assert!(matches!(refused, Err(TsmError::OtherEvidence { provider: Provider::Snp })), "{refused:?}");
    let milan = include_bytes!("../../../../spec/vectors/quotes/snp_milan.dat");
    let report = TsmReport { provider: Provider::Snp, report: milan.to_vec(), auxiliary: vec![1] };
    let report_data = milan[0x50..0x90].try_into().unwrap();
    assert_eq!(evidence_of(&report, &report_data).unwrap(), milan);
    let refused = evidence_of(&report, &[7; 64]);
    assert!(matches!(refused, Err(TsmError::OtherEvidence { provider: Provider::Snp })), "{refused:?}");
}

#[test]
fn files_are_used_as_the_kernel_has_them() {
    let root = tempfile::tempdir().unwrap();
    let missing = Tsm { folder: root.path().join("tsm/report") };
    assert!(matches!(missing.report(&[7; 64]), Err(TsmError::Missing { .. })));
    let error = missing.evidence(&[7; 64]).unwrap_err();
    assert!(error.to_string().contains("Linux 6.7"), "{error}");

    // Without a kernel behind it a folder stays empty, and goes again.
    let tsm = Tsm { folder: root.path().to_owned() };
    let empty = tsm.report(&[7; 64]);
    assert!(matches!(empty, Err(TsmError::Attribute { attribute: "provider", .. })), "{empty:?}");
    assert!(matches!(tsm.provider(), Err(TsmError::Attribute { attribute: "provider", .. })));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);

    tsm.make("one").unwrap();
    assert_eq!(tsm.make("one").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(tsm.write("one", "inblob", &[1]).is_err(), "attributes are the kernel's to make");
    fs::write(root.path().join("one/inblob"), []).unwrap();
    tsm.write("one", "inblob", &[1, 2]).unwrap();
    assert_eq!(tsm.read("one", "inblob").unwrap(), [1, 2]);
    fs::write(root.path().join("one/outblob"), vec![0; LEN_MAX + 100]).unwrap();
    assert_eq!(tsm.read("one", "outblob").unwrap().len(), LEN_MAX + 1);
}
