use super::*;
use crate::human::tests::vectors;

#[test]
fn words_of_the_official_sdk_give_its_keys() {
    for wallet in vectors() {
        let key = Mnemonic::parse(&wallet.words, &wallet.password).unwrap().key();
        assert_eq!(hex::encode(key.to_bytes()), wallet.seed);
        assert_eq!(hex::encode(key.verifying_key().to_bytes()), wallet.public_key);
    }
}

#[test]
fn spaces_and_capitals_do_not_matter() {
    let wallet = &vectors()[0];
    let typed = format!("  {}\n", wallet.words.to_uppercase().replace(' ', "\n "));
    let mnemonic = Mnemonic::parse(&typed, "").unwrap();
    assert_eq!(mnemonic.words(), wallet.words);
}

#[test]
fn a_password_is_asked_for_where_it_belongs() {
    let wallets = vectors();
    let without = wallets.iter().find(|wallet| wallet.password.is_empty()).unwrap();
    let with = wallets.iter().find(|wallet| !wallet.password.is_empty()).unwrap();
    let parse =
        |words: &str, password: &str| Mnemonic::parse(words, password).map(|_mnemonic| ()).unwrap_err();
    assert_eq!(parse(&with.words, ""), MnemonicError::PasswordNeeded);
    assert_eq!(parse(&with.words, "another"), MnemonicError::Invalid);
    assert_eq!(parse(&without.words, "a password"), MnemonicError::PasswordNotNeeded);
}

#[test]
fn mistyped_words_are_refused_and_not_printed() {
    let words = &vectors()[0].words;
    let parse = |words: &str| Mnemonic::parse(words, "").map(|_mnemonic| ()).unwrap_err();
    assert_eq!(parse(""), MnemonicError::Count { found: 0 });
    assert_eq!(parse(&format!("{words} rail")), MnemonicError::Count { found: 25 });
    let error = parse(&words.replace("sound", "sonud"));
    assert_eq!(error, MnemonicError::Word { position: 2 });
    assert!(!error.to_string().contains("sonud"));
    assert_eq!(parse(&words.replacen("rail sound", "sound rail", 1)), MnemonicError::Invalid);
    assert_eq!(format!("{:?}", Mnemonic::parse(words, "").unwrap()), "Mnemonic(secret)");
}

#[test]
fn generated_words_are_valid() {
    // Predictable bytes: this is a test.
    let mut state = 7_u64;
    let mut fill = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
    };
    let first = Mnemonic::generate("", &mut fill);
    assert!(Mnemonic::parse(first.words(), "").is_ok());
    assert_ne!(Mnemonic::generate("", &mut fill).words(), first.words());
}
