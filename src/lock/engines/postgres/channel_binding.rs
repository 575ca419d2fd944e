//! Channel binding: what ties the proof of a password to the server's certificate.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// `tls-server-end-point` (RFC 5929): the certificate's hash, by the function of its own signature; with MD5 and SHA-1,
/// SHA-256 is used.
///
/// By hand, as tokio-postgres-rustls (0.14) has no channel binding for certificates signed with ECDSA and SHA-512.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER … } … }
    let (whole, _) = element(0x30, certificate)?;
    let (_, rest) = element(0x30, whole)?;
    let (algorithm, _) = element(0x30, rest)?;
    let (algorithm, _) = element(0x06, algorithm)?;
    let hash = match (algorithm.strip_prefix(RSA), algorithm.strip_prefix(ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Sha256::digest(certificate).to_vec(),
        (Some([12]), _) | (_, Some([3, 3])) => Sha384::digest(certificate).to_vec(),
        (Some([13]), _) | (_, Some([3, 4])) => Sha512::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}

/// The content of a DER element with this tag, and what follows it.
fn element(tag: u8, text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[first, length], rest) = text.split_first_chunk::<2>()?;
    if first != tag {
        return None;
    }
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let digits = usize::from(length & 0x7f);
        let (number, rest) = rest.split_at_checked(digits).filter(|_| digits <= 4)?;
        let number = number
            .iter()
            .fold(0_usize, |number, digit| number << 8 | usize::from(*digit));
        (number, rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_what_is_none() {
        assert_eq!(element(0x30, &[0x30, 2, 1, 2, 3]), Some((&[1, 2][..], &[3][..])));
        assert_eq!(element(0x30, &[0x30, 0x81, 1, 9]), Some((&[9][..], &[][..])));
        for wrong in [
            &[][..],
            &[0x30],
            &[0x31, 0],
            &[0x30, 2, 1],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(element(0x30, wrong), None, "{wrong:?}");
        }
        assert_eq!(end_point(&[0x30, 0]), None);
    }
}
