//! `cocoon attest connect`: what a peer of the network shows, and what it is worth.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use ::attest::{Certificate, Collateral, Root, SnpRoot, SnpVerifier, Verifier};
use anyhow::{Context, Result, ensure};
use clap::{ArgGroup, Args};
use evidence::{Appraiser, CollateralStore, Kds, Pccs, SnpStore};
use transport::clock::unix_now;
use transport::{SecureConnectConfig, SecureStream};

use super::rows::{self, Rows};

/// Whom to connect to, and what to ask of it.
#[derive(Args)]
#[command(group(ArgGroup::new("source").args(["collateral", "pccs", "kds"]).multiple(true)))]
pub(crate) struct Connect {
    /// The peer, HOST:PORT: a proxy's port, or any that a router serves.
    peer: String,
    /// A policy to appraise its evidence by: a file (TOML), or as routers have them, `tdx` or FILE.json#NAME. Without one, any image and
    /// any status but a revoked one will do.
    #[arg(long, value_name = "POLICY", requires = "source")]
    policy: Option<String>,
    /// Folder with what the vendor publishes of platforms, or with --pccs and --kds a cache of it.
    #[arg(long, value_name = "FOLDER")]
    collateral: Option<PathBuf>,
    /// Where that is fetched for Intel's platforms, such as https://localhost:8081. Without any of the three nothing is verified.
    #[arg(long, value_name = "URL")]
    pccs: Option<String>,
    /// Where certificates of AMD's processors are fetched, such as https://kdsintf.amd.com.
    #[arg(long, value_name = "URL")]
    kds: Option<String>,
    /// The certificate (DER) of a simulated vendor, which is believed in the place of Intel.
    #[arg(long, value_name = "FILE", requires = "source")]
    simulated_root: Option<PathBuf>,
    /// Bits of proof of work that are done for the peer.
    #[arg(long, value_name = "BITS", default_value_t = 30)]
    max_pow_difficulty: u8,
    /// As one line of JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Connect {
    /// Adds what is found; an error says what is wrong with it.
    pub(super) async fn look(&self, found: &mut Rows) -> Result<()> {
        let appraiser = self.appraiser()?;
        let config = SecureConnectConfig {
            pow_difficulty_max: self.max_pow_difficulty,
            ..SecureConnectConfig::default()
        };
        let peer = SecureStream::connect(&self.peer, &config).await;
        let peer = peer.with_context(|| format!("cannot connect to {}", self.peer))?;
        let certificate = peer.certificate().context("the peer showed no certificate")?;
        let certificate = Certificate::parse(certificate)?;
        found.push(("peer".to_owned(), peer.peer_addr().to_string().into()));
        found.extend(super::certificate_rows(&certificate, unix_now())?);
        let Some(signed) = super::evidence_of(&certificate, found)? else {
            ensure!(appraiser.is_none(), "the peer shows no evidence of an enclave");
            return Ok(());
        };
        found.extend(super::rows_of(&signed));
        let Some(appraiser) = appraiser else {
            found.push(("verdict".to_owned(), "not verified: name the --collateral, --pccs or --kds".into()));
            return Ok(());
        };
        let deadline = config.deadlines.evidence;
        let appraised = tokio::time::timeout(deadline, peer.appraise(&appraiser)).await;
        match appraised.with_context(|| format!("no verdict within {} s", deadline.as_secs()))? {
            Ok(appraised) => {
                found.extend(rows::of_appraised(&appraised)?);
                if appraised.is_simulated() {
                    found.push(("simulated".to_owned(), true.into()));
                }
                Ok(())
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                found.push(("verdict".to_owned(), format!("refused: {}", error.root_cause()).into()));
                Err(error)
            }
        }
    }

    /// What appraises, if there is something to verify with.
    fn appraiser(&self) -> Result<Option<Appraiser>> {
        if self.collateral.is_none() && self.pccs.is_none() && self.kds.is_none() {
            return Ok(None);
        }
        let policy = match &self.policy {
            Some(asked) => {
                let policy = super::policy(asked)?;
                ensure!(
                    policy.nvidia.is_none(),
                    "{asked} has a table [nvidia], and links carry no evidence of GPUs: take the table out, nobody would look at it"
                );
                policy
            }
            None => super::any_genuine(),
        };
        let root = match &self.simulated_root {
            Some(path) => Root::Other(super::bytes(path, Collateral::LEN_MAX)?),
            None => Root::Intel,
        };
        let folder = self.collateral.clone().unwrap_or_else(|| "collateral".into());
        let pccs = self.pccs.as_deref().map(Pccs::new).transpose()?;
        let kds = self.kds.as_deref().map(Kds::new).transpose()?;
        let snp = SnpStore::new(SnpVerifier::new(SnpRoot::Amd), folder.clone(), kds);
        let store = CollateralStore::new(folder, pccs);
        Ok(Some(Appraiser::new(Verifier::new(root), policy, store, NonZeroUsize::MIN).with_snp(snp)))
    }
}
