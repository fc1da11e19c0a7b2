//! Asking AMD's key service (KDS), or whatever answers in its place, for the certificates of processors: version 1 of its HTTP
//! interface (*Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification*, 57230).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use attest::{SnpCertificates, SnpProduct, VcekId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Mutex;

use crate::pccs::{Pccs, PccsError};
use crate::renewed::{RENEWED_AFTER, age};

/// A service that gives out certificates of AMD's processors. It need not be trusted, since AMD signs all of them: plain `http`
/// will do. Clones share what is known of products.
#[derive(Clone, Debug)]
pub struct Kds {
    service: Pccs,
    products: Arc<Mutex<HashMap<SnpProduct, Product>>>,
}

/// What is the same for all processors of a product, as PEM: the intermediate certificate, and what its root took back.
#[derive(Clone, Debug)]
struct Product {
    text: Arc<str>,
    /// Since 1970.
    fetched_at: Duration,
}

impl Kds {
    /// A service at an address such as `https://kdsintf.amd.com`. Asks nothing yet.
    ///
    /// # Errors
    /// [`PccsError::Address`].
    pub fn new(address: &str) -> Result<Self, PccsError> {
        Ok(Self { service: Pccs::new(address)?, products: Arc::default() })
    }

    /// Fetches what is needed to verify reports that a key signed, at `now` since 1970: PEM, as [`SnpCertificates::from_pem`] reads it.
    ///
    /// # Errors
    /// [`PccsError`], for the last of the products that the processor can be of.
    pub async fn fetch(&self, id: VcekId, now: Duration) -> Result<String, PccsError> {
        let mut outcome = Err(PccsError::Malformed { url: id.to_string(), what: "a product" });
        for product in id.products() {
            outcome = self.fetch_as(id, product, now).await;
            // Only who does not know a processor may say that it is of another product.
            if !matches!(outcome, Err(PccsError::Status { .. })) {
                break;
            }
        }
        outcome
    }

    async fn fetch_as(&self, id: VcekId, product: SnpProduct, now: Duration) -> Result<String, PccsError> {
        let tcb = id.tcb(product);
        let fmc =
            if product == SnpProduct::Turin { format!("fmcSPL={:02}&", tcb.fmc) } else { String::new() };
        let path = format!(
            "vcek/v1/{product}/{}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
            id.chip_id(product),
            tcb.bootloader,
            tcb.tee,
            tcb.snp,
            tcb.microcode
        );
        let (url, (_headers, vcek)) = self.service.get(&path).await?;
        let text = format!("{}{}", pem("CERTIFICATE", &vcek), self.product(product, now).await?);
        let found = SnpCertificates::from_pem(text.as_bytes()).ok().and_then(|found| found.next_update());
        match found {
            Some(_until) => Ok(text),
            None => Err(PccsError::Malformed { url, what: "a processor's certificate that can be read" }),
        }
    }

    /// Those who ask for the same meanwhile wait for one answer.
    async fn product(&self, product: SnpProduct, now: Duration) -> Result<Arc<str>, PccsError> {
        let mut products = self.products.lock().await;
        let known = products.get(&product);
        if let Some(known) =
            known.filter(|known| age(known.fetched_at, now).is_some_and(|age| age < RENEWED_AFTER))
        {
            return Ok(known.text.clone());
        }
        let (url, (_headers, chain)) = self.service.get(&format!("vcek/v1/{product}/cert_chain")).await?;
        let revoked = match self.service.get(&format!("vcek/v1/{product}/crl")).await {
            Ok((_url, (_headers, der))) => pem("X509 CRL", &der),
            // Whoever is in the middle can leave it out: policies say whether it is needed.
            Err(PccsError::Status { .. }) => String::new(),
            Err(error) => return Err(error),
        };
        let chain = str::from_utf8(&chain)
            .map_err(|_binary| PccsError::Malformed { url, what: "certificates as PEM" })?;
        let text: Arc<str> = format!("{chain}\n{revoked}").into();
        products.insert(product, Product { text: text.clone(), fetched_at: now });
        Ok(text)
    }
}

/// DER as text (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines = encoded.as_bytes().chunks(64).map(|line| [line, b"\n"].concat());
    let lines = lines.map(|line| line.into_iter().map(char::from).collect::<String>()).collect::<String>();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}
