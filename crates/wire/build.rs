//! Checks `spec/wire.tl` and turns its constructor ids into constants.
//!
//! The Rust types take their ids from these constants, so a type whose constructor is not in the schema does not
//! compile; the constants that no type uses are dead code, which the crate denies, so neither does the opposite.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use tl_scheme::{Constructor, Scheme};

/// Constructors whose id the deployed network fixed by hand; every other id must be the computed one.
const FIXED_BY_HAND: [&str; 4] =
    ["client.params", "client.workerInstanceV2", "proxy.params", "worker.params"];

/// Built into the language: bare wherever they occur, so that their ids are never on the wire.
const NEVER_SENT: [&str; 3] = ["bytes", "int256", "vector"];

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let schema_path = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../spec/wire.tl");
    println!("cargo::rerun-if-changed={}", schema_path.display());

    let text = fs::read_to_string(&schema_path)?;
    let schema = Scheme::parse(&text)?;
    schema.validate()?;

    let mut constructors = BTreeMap::new();
    for constructor in schema.types.values().chain(schema.functions.values()) {
        if !NEVER_SENT.contains(&constructor.variant) {
            let id = checked_id(constructor)?;
            if let Some(other) = constructors.insert(id, constructor.variant) {
                return Err(format!("{other} and {} share the id {id:08x}", constructor.variant).into());
            }
        }
    }

    let out_path = PathBuf::from(env::var("OUT_DIR")?).join("schema.rs");
    fs::write(out_path, constants(&constructors)?)?;
    Ok(())
}

/// The id written in the schema, once it is known to be the right one.
fn checked_id(constructor: &Constructor<'_>) -> Result<u32, Error> {
    let name = constructor.variant;
    let Some(id) = constructor.tl_id else {
        return Err(format!("{name} has no explicit id").into());
    };
    let computed = Constructor { tl_id: None, ..constructor.clone() }.compute_tl_id();
    match (id == computed, FIXED_BY_HAND.contains(&name)) {
        (true, false) | (false, true) => Ok(id),
        (true, true) => Err(format!("{name} is no exception: its id {id:08x} is the computed one").into()),
        (false, false) => {
            Err(format!("{name} has the id {id:08x}, its declaration gives {computed:08x}").into())
        }
    }
}

/// Rust source: one module per namespace, one constant per constructor, both named as in the schema.
fn constants(constructors: &BTreeMap<u32, &str>) -> Result<String, Error> {
    let mut modules: BTreeMap<&str, String> = BTreeMap::new();
    for (id, name) in constructors {
        let (namespace, name) = name.rsplit_once('.').unwrap_or(("", name));
        writeln!(modules.entry(namespace).or_default(), "pub(crate) const {name}: u32 = 0x{id:08x};")?;
    }
    let mut source = String::new();
    for (namespace, constants) in modules {
        match namespace {
            "" => source.push_str(&constants),
            _ => writeln!(source, "pub(crate) mod {namespace} {{\n{constants}}}")?,
        }
    }
    Ok(source)
}
