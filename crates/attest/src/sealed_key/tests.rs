use super::*;

/// A guest with the private key 0101…01, an enclave with 0202…02, the secret 00, 01 … 1f: made with another library (`cryptography` 48 for
/// Python), by the rule in [`super`].
const GUEST: &str = "16ca9415ce2baa0381325ca0691ab4850a0e96e61935d4ad1dce4192943bf06f4a141cf7ce89b982226ea9257dffc640\
    8be7eec7b0c0f653dc01bf553a754f3c";
const WRAPPED: &str = "248ec8658a4924d2836f8f7bfba1b11f72f697c76a50dfc397dff30310470f55e6b8367032fbb16a19fa3f1bc0b5f40f\
    cca3000bbd5c71739a502e01d7936013f022d84f54f5dd9180bdf745d12993a098e715191319e0b9948ae190d40e05ee";
const REPORT_DATA: &str = "13cd69eef9df341d133895d6ed53f8c4a13fb72c17adafbd2e1e96e5e25b474848855e64c1360620765d6e98e0107836\
    6d23780e18de9badcf53aa635602f867";

fn guest() -> GuestKey {
    GuestKey::of(PrivateKey::from_private_key(&ECDH_P256, &[1; 32]).unwrap()).unwrap()
}

fn wrapped() -> [u8; WRAPPED_LEN] {
    *WRAPPED.parse::<Hex<WRAPPED_LEN>>().unwrap().as_bytes()
}

/// What [`GuestKey::open`] deciphers once the quote is right.
fn opened(guest: &GuestKey, wrapped: &[u8; WRAPPED_LEN]) -> Result<[u8; 32], SealedKeyError> {
    let mut text = *wrapped.last_chunk().unwrap();
    cipher(&guest.private, wrapped.first_chunk().unwrap(), &mut text)?;
    Ok(text)
}

#[test]
fn the_cipher_is_that_of_another_library() {
    let guest = guest();
    assert_eq!(hex::encode(guest.public()), GUEST);
    assert_eq!(opened(&guest, &wrapped()), Ok(std::array::from_fn(|at| u8::try_from(at).unwrap())));
    let answer = KeyAnswer { quote: vec![], wrapped: wrapped() };
    assert_eq!(hex::encode(guest.report_data_of(&answer)), REPORT_DATA);
    assert_eq!(guest.report_data()[..32], guest.report_data_of(&answer)[..32]);
    assert_eq!(guest.report_data()[32..], [0; 32]);
}

#[test]
fn what_is_wrapped_for_one_guest_opens_there_and_nowhere_else() {
    let (guest, other) = (GuestKey::generate().unwrap(), GuestKey::generate().unwrap());
    let secret = [7; 32];
    let wrapped = wrap(guest.public(), &secret).unwrap();
    assert_eq!(opened(&guest, &wrapped), Ok(secret));
    assert_ne!(opened(&other, &wrapped), Ok(secret));
    // A key of the moment on both sides.
    assert_ne!(wrap(guest.public(), &secret).unwrap(), wrapped);
    let mut changed = wrapped;
    changed[WRAPPED_LEN - 1] ^= 1;
    assert_ne!(opened(&guest, &changed), Ok(secret));
}

#[test]
fn keys_that_are_no_points_are_refused() {
    for public in [[0; 64], [0xff; 64], [1; 64]] {
        assert_eq!(wrap(&public, &[0; 32]), Err(SealedKeyError::PublicKey));
        let mut off_curve = wrapped();
        off_curve[..64].copy_from_slice(&public);
        assert_eq!(opened(&guest(), &off_curve), Err(SealedKeyError::PublicKey));
    }
}

#[test]
fn only_enclaves_on_the_list_are_believed() {
    let enclave = MrEnclave::new([3; 32]);
    let one = policy([enclave]);
    assert!(
        one.images.allows(&image_of(&enclave)) && !one.images.allows(&image_of(&MrEnclave::new([4; 32])))
    );
    assert!(!policy([]).images.allows(&image_of(&enclave)), "an empty list is no list of all");
    assert_eq!(one.tees, [Tee::Sgx].into());
    assert_eq!(one.statuses, [crate::policy::TcbStatus::UpToDate].into());
}

#[test]
fn secrets_are_not_shown() {
    let key = SealedKey(Zeroizing::new([0xab; 32]));
    assert_eq!(format!("{key:?} {:?}", guest()), "SealedKey(..) GuestKey(..)");
}
