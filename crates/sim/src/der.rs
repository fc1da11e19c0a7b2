//! What of a platform its certificate says: Intel's extension for PCK certificates
//! (Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section 1.3.5).

use attest::PlatformId;

/// 1.2.840.113741.1.13.1, the extension. Its members have one more number each.
pub(crate) const SGX_EXTENSION: &[u64] = &[1, 2, 840, 113_741, 1, 13, 1];
/// The same, encoded.
const SGX_EXTENSION_DER: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1];

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;

/// The extension's value.
pub(crate) fn sgx_extension(
    id: PlatformId,
    cpu_svn: &[u8; 16],
    pce_svn: u8,
    pce_id: &[u8; 2],
    fmspc: &[u8; 6],
) -> Vec<u8> {
    let components = (1..).zip(cpu_svn).map(|(number, svn)| member(&[2, number], INTEGER, &[*svn]));
    let tcb: Vec<u8> = components
        .chain([member(&[2, 17], INTEGER, &[pce_svn]), member(&[2, 18], OCTET_STRING, cpu_svn)])
        .flatten()
        .collect();
    let members = [
        member(&[1], OCTET_STRING, id.as_bytes()),
        member(&[2], SEQUENCE, &tcb),
        member(&[3], OCTET_STRING, pce_id),
        member(&[4], OCTET_STRING, fmspc),
        // Standard: what platforms of one package are.
        member(&[5], ENUMERATED, &[0]),
    ];
    element(SEQUENCE, &members.concat())
}

fn member(number: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
    let name = element(OBJECT_IDENTIFIER, &[SGX_EXTENSION_DER, number].concat());
    element(SEQUENCE, &[name, element(tag, value)].concat())
}

/// Numbers given here are below 128, so that none of them reads as negative.
fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut length = value.len().to_be_bytes().to_vec();
    length.drain(..length.iter().take_while(|byte| **byte == 0).count());
    let head = match length[..] {
        [] => vec![tag, 0],
        [short @ ..0x80] => vec![tag, short],
        _ => {
            let digits = u8::try_from(length.len()).expect("a length has at most eight bytes");
            [&[tag, 0x80 | digits], &length[..]].concat()
        }
    };
    [&head, value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_der() {
        assert_eq!(element(INTEGER, &[]), [2, 0]);
        assert_eq!(element(INTEGER, &[7]), [2, 1, 7]);
        assert_eq!(element(OCTET_STRING, &[7; 0x7f])[..3], [4, 0x7f, 7]);
        assert_eq!(element(OCTET_STRING, &[7; 0x80])[..4], [4, 0x81, 0x80, 7]);
        assert_eq!(element(SEQUENCE, &[7; 0x1234])[..5], [0x30, 0x82, 0x12, 0x34, 7]);
    }
}
