//! What a router asks of peers: the deployed network's three kinds of policies, and what they are here.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use attest::{Allowed, Policy, Register};
use serde::{Deserialize, Serialize};
use units::ImageHash;

/// A kind of policy, by the deployed network's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// `any`: a certificate, and nobody looks at evidence.
    Any,
    /// `tdx`: a quote of Intel TDX.
    Tdx,
    /// `fake_tdx`: the report data of a quote, which nobody signed. Tests of the deployed software use it.
    FakeTdx,
}

impl PolicyKind {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Any, Self::Tdx, Self::FakeTdx];

    /// As options and files write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Tdx => "tdx",
            Self::FakeTdx => "fake_tdx",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no kind of policy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no kind of policy: there are any, tdx and fake_tdx")]
pub struct PolicyKindError {
    found: String,
}

impl FromStr for PolicyKind {
    type Err = PolicyKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| PolicyKindError { found: text.chars().take(40).collect() })
    }
}

/// What of a guest is accepted. `None` is anything; an empty list does not become a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestLists {
    /// MRTDs.
    pub mrtds: Option<BTreeSet<Register>>,
    /// RTMR0 to RTMR3.
    pub rtmrs: Option<BTreeSet<[Register; 4]>>,
    /// Image hashes.
    pub images: Option<BTreeSet<ImageHash>>,
    /// Roots of the vendor's certificates.
    pub root_keys: Option<BTreeSet<Register>>,
}

impl GuestLists {
    /// The name of a list that is there and empty: the deployed router takes that for "anything".
    pub(crate) fn empty_list(&self) -> Option<&'static str> {
        let Self { mrtds, rtmrs, images, root_keys } = self;
        let is_empty = [
            ("allowed_mrtd", mrtds.as_ref().is_some_and(BTreeSet::is_empty)),
            ("allowed_rtmr", rtmrs.as_ref().is_some_and(BTreeSet::is_empty)),
            ("allowed_image_hashes", images.as_ref().is_some_and(BTreeSet::is_empty)),
            ("allowed_collateral_root_hashes", root_keys.as_ref().is_some_and(BTreeSet::is_empty)),
        ];
        is_empty.into_iter().find_map(|(name, is_empty)| is_empty.then_some(name))
    }
}

/// What a router asks of the peers of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPolicy {
    /// A certificate.
    Any,
    /// A quote that this policy accepts.
    Tdx(Policy),
    /// Report data that nobody signed, and measurements of zero that this policy accepts.
    FakeTdx(Policy),
}

/// The root of Intel's certificates, by the SHA-384 of its key: `Intel SGX Root CA`.
pub const INTEL_ROOT_KEY: &str =
    "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993";

/// The same as a value.
pub(crate) fn intel_root_key() -> Register {
    INTEL_ROOT_KEY.parse().expect("the text is 96 digits")
}

/// Why a policy cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A list that nothing looks at.
    #[error(
        "it is of the kind any, which looks at no evidence, and lists what evidence may say: make it tdx, or leave the lists out"
    )]
    AnyWithLists,
    /// An empty list.
    #[error(
        "{list} is empty, which the deployed router takes for \"anything\": leave it out if that is meant, or list what is accepted"
    )]
    EmptyList {
        /// Its name.
        list: &'static str,
    },
    /// A policy for tests.
    #[error("it is of the kind fake_tdx, which proves nothing: only tests take it, with --insecure-fake-tdx")]
    Fake,
}

impl PeerPolicy {
    /// Whether it asks for evidence, and lists roots that Intel's is not among: no genuine platform of today has another.
    #[must_use]
    pub fn lacks_intels_root(&self) -> bool {
        matches!(self, Self::Tdx(policy) if !policy.root_keys.allows(&intel_root_key()))
    }

    /// A policy of a kind. Where `lists` has no roots, those of `root_keys` are accepted.
    ///
    /// # Errors
    /// [`PolicyError`], [`PolicyError::Fake`] only if the caller does not accept fakes.
    pub fn new(
        kind: PolicyKind,
        lists: GuestLists,
        root_keys: &Allowed<Register>,
        accepts_fake: bool,
    ) -> Result<Self, PolicyError> {
        if let Some(list) = lists.empty_list() {
            return Err(PolicyError::EmptyList { list });
        }
        if kind == PolicyKind::Any {
            return if lists == GuestLists::default() {
                Ok(Self::Any)
            } else {
                Err(PolicyError::AnyWithLists)
            };
        }
        let GuestLists { mrtds, rtmrs, images, root_keys: own_root_keys } = lists;
        let policy = Policy {
            mrtds: mrtds.map_or_else(Allowed::default, Allowed::Only),
            rtmrs: rtmrs.map_or_else(Allowed::default, Allowed::Only),
            ..Policy::for_images(images.map_or_else(Allowed::default, Allowed::Only))
        };
        match kind {
            PolicyKind::FakeTdx if !accepts_fake => Err(PolicyError::Fake),
            // What nobody signed has no root.
            PolicyKind::FakeTdx => Ok(Self::FakeTdx(policy)),
            PolicyKind::Tdx | PolicyKind::Any => {
                let root_keys = own_root_keys.map_or_else(|| root_keys.clone(), Allowed::Only);
                Ok(Self::Tdx(Policy { root_keys, ..policy }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intel() -> Allowed<Register> {
        Allowed::only([intel_root_key()])
    }

    fn image() -> ImageHash {
        ImageHash::new([7; 32])
    }

    #[test]
    fn tdx_is_a_policy_of_ours_with_the_vendors_root() {
        let bare = PeerPolicy::new(PolicyKind::Tdx, GuestLists::default(), &intel(), false).unwrap();
        let expected = Policy { root_keys: intel(), ..Policy::for_images(Allowed::default()) };
        assert_eq!(bare, PeerPolicy::Tdx(expected));
        let other = BTreeSet::from([Register::new([1; 48])]);
        let lists = GuestLists {
            images: Some([image()].into()),
            root_keys: Some(other.clone()),
            ..GuestLists::default()
        };
        let Ok(PeerPolicy::Tdx(policy)) = PeerPolicy::new(PolicyKind::Tdx, lists, &intel(), false) else {
            panic!()
        };
        assert_eq!(policy.root_keys, Allowed::Only(other), "a list of its own is the list");
        assert!(policy.images.allows(&image()) && !policy.images.allows(&ImageHash::new([8; 32])));
    }

    #[test]
    fn a_list_of_roots_without_intels_is_noticed() {
        let under = |kind, root_keys: Allowed<Register>| {
            PeerPolicy::new(kind, GuestLists::default(), &root_keys, true).unwrap().lacks_intels_root()
        };
        let other = || Allowed::only([Register::new([1; 48])]);
        let both = Allowed::only([intel_root_key(), Register::new([1; 48])]);
        assert!(under(PolicyKind::Tdx, other()));
        for root_keys in [intel(), both, Allowed::default()] {
            assert!(!under(PolicyKind::Tdx, root_keys));
        }
        assert!(!under(PolicyKind::Any, other()), "it asks for no evidence");
        assert!(!under(PolicyKind::FakeTdx, other()), "what nobody signed has no root");
    }

    #[test]
    fn what_would_accept_more_than_it_says_is_refused() {
        let new = |kind, lists| PeerPolicy::new(kind, lists, &intel(), false);
        let images = |images: &[ImageHash]| GuestLists {
            images: Some(images.iter().copied().collect()),
            ..GuestLists::default()
        };
        assert_eq!(new(PolicyKind::Any, GuestLists::default()), Ok(PeerPolicy::Any));
        assert_eq!(new(PolicyKind::Any, images(&[image()])), Err(PolicyError::AnyWithLists));
        let empty = Err(PolicyError::EmptyList { list: "allowed_image_hashes" });
        assert_eq!(new(PolicyKind::Tdx, images(&[])), empty);
        assert_eq!(new(PolicyKind::FakeTdx, GuestLists::default()), Err(PolicyError::Fake));
        let accepted = PeerPolicy::new(PolicyKind::FakeTdx, GuestLists::default(), &intel(), true);
        assert!(matches!(accepted, Ok(PeerPolicy::FakeTdx(_))));
        assert!("TDX".parse::<PolicyKind>().is_err());
    }
}
