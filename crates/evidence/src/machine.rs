//! What a machine has of what evidence takes: its processor, kernel, devices and programs.
//!
//! All files are read below a folder that is given, so that the same look can be taken at a made-up machine.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::tdx_guest::TDX_GUEST_DEVICE;
use crate::tsm::{Provider, TSM_FOLDER};

/// What a look needs that no file says. Programs that could not be asked are `None`.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Who signs reports of this kernel ([`Tsm::provider`](crate::Tsm::provider)), or why nobody does.
    pub provider: Result<Provider, String>,
    /// Whether quotes come without configfs-tsm ([`TdxGuest::probe`](crate::TdxGuest::probe)), or why not.
    pub tdx_guest: Result<(), String>,
    /// What `qemu-system-x86_64 --version` says.
    pub qemu: Option<String>,
    /// What `nvidia-smi conf-compute -f` says.
    pub conf_compute: Option<String>,
}

/// What a part of the machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Being a guest that proves what it is.
    Guest,
    /// Being the host of such guests.
    Host,
    /// A GPU that works for such a guest.
    Gpu,
    /// Verifying what others prove.
    Verifier,
}

/// One thing that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is for.
    pub purpose: Purpose,
    /// What it is.
    pub name: &'static str,
    /// Whether it is there, and enough.
    pub is_ok: bool,
    /// What was found.
    pub found: String,
    /// How to get it, where it is missing.
    pub remedy: Option<&'static str>,
}

impl Finding {
    /// A finding: the remedy is kept only where it is needed.
    #[must_use]
    pub fn new(
        purpose: Purpose,
        name: &'static str,
        is_ok: bool,
        found: String,
        remedy: &'static str,
    ) -> Self {
        Self { purpose, name, is_ok, found, remedy: (!is_ok).then_some(remedy) }
    }
}

/// A release of a kernel or program: its first two numbers.
type Release = (u32, u32);

/// Since when Linux has configfs-tsm.
const LINUX_TSM: Release = (6, 7);
/// Since when KVM runs guests under TDX, and under SEV-SNP.
const LINUX_HOST: [Release; 2] = [(6, 16), (6, 11)];
/// Since when QEMU does.
const QEMU_HOST: [Release; 2] = [(10, 1), (9, 1)];

/// Looks at the machine whose files are below `root`.
#[must_use]
pub fn look(root: &Path, heard: &Heard) -> Vec<Finding> {
    let files = Files { root };
    let cpu = Cpu::of(&files.text("/proc/cpuinfo"));
    let kernel = files.text("/proc/sys/kernel/osrelease").trim().to_owned();
    [guest(&files, &cpu, &kernel, heard), host(&files, &cpu, &kernel, heard), gpu(&files, heard)].concat()
}

fn guest(files: &Files<'_>, cpu: &Cpu, kernel: &str, heard: &Heard) -> Vec<Finding> {
    let of = |name, is_ok, found, remedy| Finding::new(Purpose::Guest, name, is_ok, found, remedy);
    let is_new = release(kernel).is_some_and(|found| found >= LINUX_TSM);
    // Older kernels do without the newer interface.
    let is_old_way = heard.tdx_guest.is_ok();
    let instead =
        |found: String| if is_old_way { format!("{found}; {TDX_GUEST_DEVICE} is enough") } else { found };
    let (is_provided, provider) = match &heard.provider {
        Ok(provider) => (true, provider.to_string()),
        // The line above says what to do about that.
        Err(_absent) if !files.has(TSM_FOLDER) => (false, instead("none without configfs-tsm".to_owned())),
        Err(error) => (false, instead(error.clone())),
    };
    let service = match &heard.tdx_guest {
        Ok(()) => "vsock:2:4050 is there".to_owned(),
        Err(_not_needed) if is_provided => "configfs-tsm does without".to_owned(),
        Err(_absent) if !files.has(TDX_GUEST_DEVICE) => format!("not asked without {TDX_GUEST_DEVICE}"),
        Err(error) => error.clone(),
    };
    let is_snp = heard.provider == Ok(Provider::Snp) || files.has("/dev/sev-guest");
    let kind = match (cpu.has("tdx_guest"), is_snp) {
        (true, _) => "guest under TDX",
        (_, true) => "guest under SEV-SNP",
        _ => "no confidential guest",
    };
    vec![
        of(
            "processor",
            kind != "no confidential guest",
            format!("{}, {kind}", cpu.vendor),
            "run in a virtual machine that its host starts under Intel TDX or AMD SEV-SNP",
        ),
        of(
            "kernel",
            is_new || is_old_way,
            format!("Linux {kernel}"),
            "boot Linux 6.7 or later in the guest: it has configfs-tsm",
        ),
        of(
            "configfs-tsm",
            files.has(TSM_FOLDER) || is_old_way,
            if files.has(TSM_FOLDER) { TSM_FOLDER.to_owned() } else { instead(files.presence(TSM_FOLDER)) },
            "mount configfs (mount -t configfs configfs /sys/kernel/config) and load tdx_guest or sev_guest (modprobe)",
        ),
        of(
            "provider of reports",
            is_provided || is_old_way,
            provider,
            "load the module tdx_guest or sev_guest (modprobe) in a guest under TDX or SEV-SNP, and look as root",
        ),
        of(
            "device",
            files.has(TDX_GUEST_DEVICE) || files.has("/dev/sev-guest"),
            files.first(&[TDX_GUEST_DEVICE, "/dev/sev-guest"]),
            "load the module tdx_guest or sev_guest (modprobe)",
        ),
        of(
            "quote service of the host",
            is_provided || is_old_way,
            service,
            "without configfs-tsm: load vmw_vsock_virtio_transport (modprobe) in the guest, which its host gives a vsock (QEMU: -device \
             vhost-vsock-pci), and run qgsd there with port = 4050 in /etc/qgs.conf",
        ),
    ]
}

fn host(files: &Files<'_>, cpu: &Cpu, kernel: &str, heard: &Heard) -> Vec<Finding> {
    let of = |name, is_ok, found, remedy| Finding::new(Purpose::Host, name, is_ok, found, remedy);
    let [is_tdx, is_snp] = [cpu.has("tdx_host_platform"), cpu.has("sev_snp")];
    let features = match (is_tdx, is_snp) {
        (true, _) => "TDX",
        (_, true) => "SEV-SNP",
        _ => "neither TDX nor SEV-SNP",
    };
    // The processor says which of the two is asked for; one that has neither is held to the later.
    let least = |of: [Release; 2]| if is_snp && !is_tdx { of[1] } else { of[0] };
    let is_since = |text: &str, since| release(text).is_some_and(|found| found >= since);
    let is_on = |path| matches!(files.text(path).trim(), "Y" | "1");
    let kvm = match (
        is_on("/sys/module/kvm_intel/parameters/tdx"),
        is_on("/sys/module/kvm_amd/parameters/sev_snp"),
    ) {
        (true, _) => "on for TDX",
        (_, true) => "on for SEV-SNP",
        _ => "off",
    };
    let qemu = heard.qemu.as_deref().and_then(|text| text.lines().next()).unwrap_or("not found");
    vec![
        of(
            "processor",
            is_tdx || is_snp,
            format!("{}, {features}", cpu.vendor),
            "an Intel Xeon with TDX (5th generation or later), or an AMD EPYC with SEV-SNP, with it enabled in the firmware's setup",
        ),
        of(
            "kernel",
            is_since(kernel, least(LINUX_HOST)),
            format!("Linux {kernel}"),
            "boot Linux 6.16 or later on the host for TDX, 6.11 or later for SEV-SNP",
        ),
        of(
            "/dev/kvm",
            files.has("/dev/kvm"),
            files.presence("/dev/kvm"),
            "enable virtualisation in the firmware's setup and load kvm_intel or kvm_amd",
        ),
        of(
            "confidential guests in KVM",
            kvm != "off",
            kvm.to_owned(),
            "load kvm_intel with tdx=1, or kvm_amd with sev_snp=1 (/etc/modprobe.d), and boot with them",
        ),
        of(
            "QEMU",
            is_since(qemu_release(qemu), least(QEMU_HOST)),
            qemu.to_owned(),
            "install QEMU 10.1 or later for TDX, 9.1 or later for SEV-SNP",
        ),
    ]
}

fn gpu(files: &Files<'_>, heard: &Heard) -> Vec<Finding> {
    let of = |name, is_ok, found, remedy| Finding::new(Purpose::Gpu, name, is_ok, found, remedy);
    let driver = files.text("/proc/driver/nvidia/version");
    let driver = driver.lines().next().map(|line| line.trim_start_matches("NVRM version:").trim().to_owned());
    let mode =
        heard.conf_compute.as_deref().and_then(|text| text.lines().find(|line| line.contains("CC status")));
    let mode = mode.map_or("not told", |line| line.trim());
    vec![
        of(
            "device",
            files.has("/dev/nvidia0"),
            files.presence("/dev/nvidia0"),
            "give the guest an NVIDIA GPU (H100 or later), if its models shall run on one",
        ),
        of(
            "driver",
            driver.is_some(),
            driver.unwrap_or_else(|| "none".to_owned()),
            "install NVIDIA's driver in the guest",
        ),
        of(
            "confidential mode",
            mode.to_ascii_uppercase().ends_with("ON"),
            mode.to_owned(),
            "turn the GPU's confidential mode on from its host, and install nvidia-smi in the guest, which tells",
        ),
    ]
}

/// The processor, as the kernel describes the first one.
struct Cpu {
    vendor: String,
    flags: Vec<String>,
}

impl Cpu {
    fn of(cpuinfo: &str) -> Self {
        let value = |key: &str| {
            let line =
                cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key));
            line.and_then(|line| line.split_once(':')).map_or("", |(_key, value)| value.trim())
        };
        let vendor = match value("vendor_id") {
            "GenuineIntel" => "Intel".to_owned(),
            "AuthenticAMD" => "AMD".to_owned(),
            "" => "unknown".to_owned(),
            other => other.to_owned(),
        };
        Self { vendor, flags: value("flags").split_whitespace().map(str::to_owned).collect() }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }
}

/// The first two numbers of a text such as `6.8.0-51-generic`.
fn release(text: &str) -> Option<Release> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The number in `QEMU emulator version 10.1.0 (Debian ...)`.
fn qemu_release(line: &str) -> &str {
    line.split_once("version ").map_or("", |(_name, number)| number)
}

/// Files below a folder, by the paths that they would have on a machine.
struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// What it holds; nothing if it cannot be read.
    fn text(&self, path: &str) -> String {
        let bytes = fs::read(self.root.join(path.trim_start_matches('/'))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn presence(&self, path: &str) -> String {
        if self.has(path) { path.to_owned() } else { format!("no {path}") }
    }

    /// Those that are there, or that none is.
    fn first(&self, paths: &[&str]) -> String {
        let found = paths.iter().find(|path| self.has(path));
        found.map_or_else(|| format!("no {}", paths.join(", no ")), |path| (*path).to_owned())
    }
}

#[cfg(test)]
mod tests;
