//! The root configuration as a file, for networks without a chain.
//!
//! The deployed software calls this JSON object `rootConfig.pseudo` and reads it under the rules of TL in JSON:
//! a missing field is zero or empty, unknown fields are ignored, a number may be written as a string. All
//! parties of such a network need the same file. What it has no field for is fixed, see [`RootConfig::pseudo`].

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};
use units::{ConfigVersion, ImageHash, InvalidModelName, ModelHash, ModelName, NanoTon};

use crate::code::CodeError;
use crate::params::{Multipliers, Params, Seconds, StructVersion};
use crate::root::{ProxyTextError, RegisteredProxy, RootConfig, model_hash};
use crate::{Address, AddressParseError, ContractCode};

/// Balance and stake of every client contract where there is no chain: play money, the same for all who look.
pub const CLIENT_BALANCE: NanoTon = NanoTon::new(4_000 * 1_000_000_000);

/// A text that is no pseudo root.
#[derive(Debug, thiserror::Error)]
pub enum PseudoRootError {
    /// The text is not JSON.
    #[error("the root configuration is not JSON")]
    Json(#[source] serde_json::Error),
    /// The text is JSON, but not an object.
    #[error("the root configuration is not a JSON object")]
    NotAnObject,
    /// A field holds something else than it should.
    #[error("field {field} of the root configuration")]
    Field {
        /// Which field, with the index for lists.
        field: String,
        /// What is wrong with it.
        #[source]
        problem: FieldProblem,
    },
}

/// What is wrong with a field of a pseudo root.
#[derive(Debug, thiserror::Error)]
pub enum FieldProblem {
    /// Another JSON type.
    #[error("expected {expected}")]
    Type {
        /// The type it should have.
        expected: &'static str,
    },
    /// The field is required and absent.
    #[error("it is required")]
    Missing,
    /// A number below zero or beyond 31 bits.
    #[error("{found} is outside 0..={}", i32::MAX)]
    Range {
        /// The number as written.
        found: String,
    },
    /// A hash that is not 32 bytes in padded base64.
    #[error("expected 32 bytes in base64 with padding")]
    Hash,
    /// A code that is not hexadecimal.
    #[error("expected a bag of cells in hexadecimal")]
    Hex,
    /// A code that is not a bag of cells.
    #[error("the code cannot be used")]
    Code(#[from] CodeError),
    /// No address.
    #[error("the address cannot be used")]
    Address(#[from] AddressParseError),
    /// A raw address, which deployed software does not read here.
    #[error("the raw form of an address is not read here: write its 48 characters")]
    RawAddress,
    /// No listeners of a proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyTextError),
    /// No name of a model.
    #[error(transparent)]
    Model(#[from] InvalidModelName),
    /// Two proxies with one number.
    #[error("proxy {seqno} is registered twice")]
    DuplicateProxy {
        /// The number.
        seqno: u32,
    },
}

/// A configuration that the file format cannot express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPseudo {
    /// A field has another value than every pseudo root.
    #[error("{field} is fixed in a pseudo root and has another value here")]
    Fixed {
        /// Which field.
        field: &'static str,
    },
    /// A number needs more than the format's 31 bits.
    #[error("{field} is {found}, a pseudo root holds at most {}", i32::MAX)]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
}

impl RootConfig {
    /// A test network of `owner` without participants, prices and codes, and with the values that are fixed in
    /// every pseudo root: struct version 1, network 13, multipliers 10000, delays of 600 and 300 seconds, stakes
    /// of 1 TON.
    #[must_use]
    pub fn pseudo(owner: Address) -> Self {
        Self {
            owner,
            version: ConfigVersion::new(0),
            proxy_hashes: BTreeSet::new(),
            worker_hashes: BTreeSet::new(),
            model_hashes: BTreeSet::new(),
            registered_proxies: Vec::new(),
            last_proxy_seqno: 0,
            params: Params {
                struct_version: StructVersion::V1,
                params_version: 0,
                unique_id: 13,
                is_test: true,
                price_per_token: NanoTon::ZERO,
                worker_fee_per_token: NanoTon::ZERO,
                multipliers: Multipliers::default(),
                proxy_delay_before_close: Seconds::new(600),
                client_delay_before_close: Seconds::new(300),
                min_proxy_stake: ONE_TON,
                min_client_stake: ONE_TON,
                proxy_code: ContractCode::empty(),
                worker_code: ContractCode::empty(),
                client_code: ContractCode::empty(),
            },
        }
    }

    /// Reads a pseudo root.
    ///
    /// `model_types` of the file go into the allow list by the part before `@`, that is, they allow exactly that
    /// bare name.
    ///
    /// # Errors
    /// [`PseudoRootError`] names the field that cannot be read.
    pub fn from_pseudo_json(json: &str) -> Result<Self, PseudoRootError> {
        let value = serde_json::from_str(json).map_err(PseudoRootError::Json)?;
        let Value::Object(object) = value else {
            return Err(PseudoRootError::NotAnObject);
        };
        let fields = Fields { object: &object, path: String::new() };

        let owner = fields.get("root_owner_address").ok_or(FieldProblem::Missing);
        let owner = owner.and_then(|value| match Address::parse(string(value)?)? {
            (address, Some(_flags)) => Ok(address),
            (_, None) => Err(FieldProblem::RawAddress),
        });
        let mut config = Self::pseudo(owner.map_err(|problem| fields.at("root_owner_address", problem))?);

        config.version = ConfigVersion::new(fields.int("version")?);
        config.proxy_hashes = fields.list("proxy_hashes", |value| hash(value).map(ImageHash::new))?;
        config.worker_hashes = fields.list("worker_hashes", |value| hash(value).map(ImageHash::new))?;
        config.model_hashes = fields.list("model_hashes", |value| hash(value).map(ModelHash::new))?;
        config.model_hashes.extend(fields.list::<Vec<_>, _>("model_types", |value| {
            let name = ModelName::new(string(value)?)?;
            Ok(model_hash(&ModelName::new(name.base())?))
        })?);
        config.registered_proxies = fields.registered_proxies()?;
        config.last_proxy_seqno = fields.int("last_proxy_seqno")?;

        let params = &mut config.params;
        params.params_version = fields.int("params_version")?;
        params.price_per_token = NanoTon::new(fields.int("price_per_token")?.into());
        params.worker_fee_per_token = NanoTon::new(fields.int("worker_fee_per_token")?.into());
        params.proxy_code = fields.code("proxy_sc_code")?;
        params.worker_code = fields.code("worker_sc_code")?;
        params.client_code = fields.code("client_sc_code")?;
        Ok(config)
    }

    /// Writes the pseudo root, for [`Self::from_pseudo_json`] and for deployed software.
    ///
    /// # Errors
    /// [`NotPseudo`] if a field that the file fixes has another value, or a number needs more than 31 bits.
    pub fn to_pseudo_json(&self) -> Result<String, NotPseudo> {
        let params = &self.params;
        let fixed = Self::pseudo(self.owner).params;
        let fixed_fields = [
            ("struct_version", params.struct_version == fixed.struct_version),
            ("unique_id", params.unique_id == fixed.unique_id),
            ("is_test", params.is_test == fixed.is_test),
            ("multipliers", params.multipliers == fixed.multipliers),
            ("proxy_delay_before_close", params.proxy_delay_before_close == fixed.proxy_delay_before_close),
            (
                "client_delay_before_close",
                params.client_delay_before_close == fixed.client_delay_before_close,
            ),
            ("min_proxy_stake", params.min_proxy_stake == fixed.min_proxy_stake),
            ("min_client_stake", params.min_client_stake == fixed.min_client_stake),
        ];
        if let Some((field, _differs)) = fixed_fields.into_iter().find(|(_field, is_same)| !is_same) {
            return Err(NotPseudo::Fixed { field });
        }
        let file = PseudoRoot {
            proxy_hashes: self.proxy_hashes.iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect(),
            worker_hashes: self.worker_hashes.iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect(),
            model_hashes: self.model_hashes.iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect(),
            model_types: [],
            registered_proxies: self
                .registered_proxies
                .iter()
                .map(PseudoProxy::new)
                .collect::<Result<_, _>>()?,
            price_per_token: int("price_per_token", params.price_per_token.get())?,
            worker_fee_per_token: int("worker_fee_per_token", params.worker_fee_per_token.get())?,
            last_proxy_seqno: int("last_proxy_seqno", self.last_proxy_seqno.into())?,
            version: int("version", self.version.get().into())?,
            params_version: int("params_version", params.params_version.into())?,
            proxy_sc_code: code_text(&params.proxy_code),
            worker_sc_code: code_text(&params.worker_code),
            client_sc_code: code_text(&params.client_code),
            root_owner_address: self.owner.to_wire_text(false),
        };
        Ok(serde_json::to_string_pretty(&file).expect("strings, numbers and lists are always JSON"))
    }
}

const ONE_TON: NanoTon = NanoTon::new(1_000_000_000);

struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name)
    }

    fn at(&self, name: &str, problem: FieldProblem) -> PseudoRootError {
        PseudoRootError::Field { field: format!("{}{name}", self.path), problem }
    }

    fn int(&self, name: &str) -> Result<u32, PseudoRootError> {
        let Some(value) = self.get(name) else { return Ok(0) };
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return Err(self.at(name, FieldProblem::Type { expected: "an integer" })),
        };
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.at(name, FieldProblem::Type { expected: "an integer" }));
        }
        let number = text.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.at(name, FieldProblem::Range { found: text }))
    }

    fn list<L: FromIterator<T>, T>(
        &self,
        name: &str,
        read: impl Fn(&'a Value) -> Result<T, FieldProblem>,
    ) -> Result<L, PseudoRootError> {
        let items = self.items(name)?.iter().enumerate();
        items
            .map(|(index, item)| read(item).map_err(|problem| self.at(&format!("{name}[{index}]"), problem)))
            .collect()
    }

    fn items(&self, name: &str) -> Result<&'a [Value], PseudoRootError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.at(name, FieldProblem::Type { expected: "a list" })),
        }
    }

    fn registered_proxies(&self) -> Result<Vec<RegisteredProxy>, PseudoRootError> {
        const NAME: &str = "registered_proxies";
        let mut proxies: Vec<RegisteredProxy> = Vec::new();
        for (index, item) in self.items(NAME)?.iter().enumerate() {
            let name = format!("{NAME}[{index}]");
            let Value::Object(object) = item else {
                return Err(self.at(&name, FieldProblem::Type { expected: "an object" }));
            };
            let fields = Fields { object, path: format!("{name}.") };
            let seqno = fields.int("seqno")?;
            let text = fields.text("address")?;
            let proxy = RegisteredProxy::from_text(seqno, text);
            let proxy = proxy.map_err(|problem| fields.at("address", problem.into()))?;
            if proxies.iter().any(|known| known.seqno == seqno) {
                return Err(fields.at("seqno", FieldProblem::DuplicateProxy { seqno }));
            }
            proxies.push(proxy);
        }
        Ok(proxies)
    }

    fn code(&self, name: &str) -> Result<ContractCode, PseudoRootError> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Ok(ContractCode::empty());
        }
        let bytes = hex::decode(text).map_err(|_not_hex| self.at(name, FieldProblem::Hex))?;
        ContractCode::from_boc(&bytes).map_err(|problem| self.at(name, problem.into()))
    }

    fn text(&self, name: &str) -> Result<&'a str, PseudoRootError> {
        let Some(value) = self.get(name) else { return Ok("") };
        string(value).map_err(|problem| self.at(name, problem))
    }
}

fn string(value: &Value) -> Result<&str, FieldProblem> {
    value.as_str().ok_or(FieldProblem::Type { expected: "a string" })
}

fn hash(value: &Value) -> Result<[u8; 32], FieldProblem> {
    let bytes = STANDARD.decode(string(value)?).map_err(|_not_base64| FieldProblem::Hash)?;
    bytes.try_into().map_err(|_other_len| FieldProblem::Hash)
}

/// The file, with its fields in the order of the TL constructor.
#[derive(Serialize)]
struct PseudoRoot {
    proxy_hashes: Vec<String>,
    worker_hashes: Vec<String>,
    model_hashes: Vec<String>,
    model_types: [String; 0],
    registered_proxies: Vec<PseudoProxy>,
    price_per_token: i32,
    worker_fee_per_token: i32,
    last_proxy_seqno: i32,
    version: i32,
    params_version: i32,
    proxy_sc_code: String,
    worker_sc_code: String,
    client_sc_code: String,
    root_owner_address: String,
}

#[derive(Serialize)]
struct PseudoProxy {
    seqno: i32,
    address: String,
}

impl PseudoProxy {
    fn new(proxy: &RegisteredProxy) -> Result<Self, NotPseudo> {
        Ok(Self { seqno: int("registered_proxies.seqno", proxy.seqno.into())?, address: proxy.to_text() })
    }
}

fn int(field: &'static str, number: u64) -> Result<i32, NotPseudo> {
    i32::try_from(number).map_err(|_too_large| NotPseudo::TooLarge { field, found: number })
}

fn code_text(code: &ContractCode) -> String {
    if code.is_empty() { String::new() } else { hex::encode(code.to_boc()) }
}

#[cfg(test)]
mod tests;
