//! `cocoon attest measure`: the registers that a guest will have, from the files of its image.

mod ignored;
mod spec;

use std::path::{Path, PathBuf};

use ::attest::measure::{PageOrder, mrtd, rtmr1, rtmr2, rtmr3, rtmr3_lines};
use ::attest::{Measurements, Register, TdxMeasurements};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::bytes;
use super::rows::Rows;

/// Longest files that are read, in bytes.
const FIRMWARE_LEN_MAX: usize = 1 << 26;
const KERNEL_LEN_MAX: usize = 1 << 28;
const RAM_DISK_LEN_MAX: usize = 1 << 31;
const COMMAND_LINE_LEN_MAX: usize = 1 << 16;

/// What to measure.
#[derive(Args)]
pub(crate) struct Measure {
    /// The folder of the image. What it lacks of OVMF.fd, vmlinuz, initrd.img, cmdline and spec, and is not named below, stays unknown.
    image: PathBuf,
    /// The firmware, as one file with code and variables. Default: OVMF.fd of the folder.
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// The kernel. Default: vmlinuz of the folder.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The initial RAM disk. Default: initrd.img of the folder.
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// The kernel's whole command line, with what the launcher adds. Default: what the file cmdline of the folder says.
    #[arg(long, value_name = "TEXT")]
    command_line: Option<String>,
    /// The folder of the specification, whose tree the guest measures. Default: spec of the folder.
    #[arg(long, value_name = "DIR")]
    spec: Option<PathBuf>,
    /// The image is one for debugging, which its guest measures too.
    #[arg(long)]
    debug_image: bool,
    /// The host adds all pages of a part of the firmware before it measures them, as QEMU 8 does.
    #[arg(long)]
    pages_first: bool,
    /// A register that is known otherwise, such as rtmr0=12ab… (96 digits). mrconfigid, mrowner and mrownerconfig are zero unless given.
    #[arg(long, value_name = "NAME=DIGITS", value_parser = register)]
    register: Vec<(usize, Register)>,
    /// As one line of JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// In the order of the image hash.
const NAMES: [&str; 8] =
    ["mrtd", "mrconfigid", "mrowner", "mrownerconfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3"];

const NO_RTMR0: &str = "it holds the ACPI tables, which QEMU makes of the whole machine: take it from the quote of a guest on such a machine, and \
                        give it as --register rtmr0=…";

fn register(text: &str) -> Result<(usize, Register)> {
    let (name, digits) = text.split_once('=').context("write it as in rtmr0=12ab…")?;
    let at = NAMES.iter().position(|known| *known == name);
    let at = at.with_context(|| format!("{name} is no register: there are {}", NAMES.join(", ")))?;
    Ok((at, digits.parse()?))
}

impl Measure {
    /// Adds the registers, and why some of them are not known; the image hash, if all of them are.
    pub(super) fn look(&self, found: &mut Rows) -> Result<()> {
        let zero = Register::new([0; 48]);
        let [mrtd, rtmr1, rtmr2, rtmr3] = [self.mrtd()?, self.rtmr1()?, self.rtmr2()?, self.rtmr3(found)?];
        let rtmr0 = Err(NO_RTMR0.to_owned());
        let mut registers = [mrtd, Ok(zero), Ok(zero), Ok(zero), rtmr0, rtmr1, rtmr2, rtmr3];
        for (at, given) in &self.register {
            registers[*at] = Ok(*given);
        }
        for (name, register) in NAMES.iter().zip(&registers) {
            found.push(match register {
                Ok(register) => ((*name).to_owned(), register.to_string().into()),
                Err(why) => (format!("{name}_unknown"), why.as_str().into()),
            });
        }
        let unknown = registers.iter().zip(NAMES).filter(|(register, _name)| register.is_err());
        let unknown: Vec<&str> = unknown.map(|(_register, name)| name).collect();
        found.push(if unknown.is_empty() {
            let registers = registers.map(|register| *register.unwrap_or(zero).as_bytes());
            let measurements = TdxMeasurements { registers, report_data: [0; 64] };
            let image = Measurements::Tdx(Box::new(measurements)).image_hash();
            ("image".to_owned(), image.to_string().into())
        } else {
            ("image_unknown".to_owned(), format!("not without {}", unknown.join(", ")).into())
        });
        Ok(())
    }

    /// A file that was named, or that the folder has.
    fn file(&self, named: Option<&PathBuf>, default: &str) -> Result<PathBuf, String> {
        match named {
            Some(path) => Ok(path.clone()),
            None => {
                let path = self.image.join(default);
                if path.exists() { Ok(path) } else { Err(format!("there is no {}", path.display())) }
            }
        }
    }

    fn mrtd(&self) -> Result<Result<Register, String>> {
        let path = match self.file(self.firmware.as_ref(), "OVMF.fd") {
            Ok(path) => path,
            Err(missing) => return Ok(Err(missing)),
        };
        let order = if self.pages_first { PageOrder::AllThenMeasured } else { PageOrder::PageByPage };
        let register = mrtd(&bytes(&path, FIRMWARE_LEN_MAX)?, order);
        register.map(Ok).with_context(|| format!("cannot measure {}", path.display()))
    }

    fn rtmr1(&self) -> Result<Result<Register, String>> {
        let path = match self.file(self.kernel.as_ref(), "vmlinuz") {
            Ok(path) => path,
            Err(missing) => return Ok(Err(missing)),
        };
        let register = rtmr1(&bytes(&path, KERNEL_LEN_MAX)?);
        register.map(Ok).with_context(|| format!("cannot measure {}", path.display()))
    }

    fn rtmr2(&self) -> Result<Result<Register, String>> {
        let ram_disk = match self.file(self.initrd.as_ref(), "initrd.img") {
            Ok(path) => path,
            Err(missing) => return Ok(Err(missing)),
        };
        let command_line = match &self.command_line {
            Some(text) => text.clone(),
            None => match self.file(None, "cmdline") {
                Ok(path) => text(&path)?,
                Err(missing) => return Ok(Err(format!("{missing}, and no --command-line"))),
            },
        };
        Ok(Ok(rtmr2(&command_line, &bytes(&ram_disk, RAM_DISK_LEN_MAX)?)))
    }

    fn rtmr3(&self, found: &mut Rows) -> Result<Result<Register, String>> {
        let path = match self.file(self.spec.as_ref(), "spec") {
            Ok(path) => path,
            Err(missing) => return Ok(Err(missing)),
        };
        let spec = spec::tree(&path).with_context(|| format!("cannot measure {}", path.display()))?;
        let lines = rtmr3_lines(&spec, self.debug_image);
        found.push(("spec_tree".to_owned(), spec.to_string().into()));
        found.push(("rtmr3_lines".to_owned(), json!(lines)));
        Ok(Ok(rtmr3(lines.iter().map(String::as_str))))
    }
}

/// The one line of a text file, without its end.
fn text(path: &Path) -> Result<String> {
    let text = String::from_utf8(bytes(path, COMMAND_LINE_LEN_MAX)?);
    let text = text.with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.trim_end_matches('\n').to_owned())
}
