use super::*;

#[test]
fn heads_come_back_and_use_every_byte() {
    let head = Head {
        index: 1,
        unix_ms: 2,
        request: Some(([3; 32], [4; BODY])),
        bundle: [5; 32],
        repeat_of: Some(6),
        slot: Some((7, [8; 32])),
        terminal: Some([9; TERMINAL]),
        clock_trusted: true,
    };
    assert_eq!(Head::decode(&head.encode()), head);
    let plain =
        Head { request: None, repeat_of: None, slot: None, terminal: None, clock_trusted: false, ..head };
    assert_eq!(Head::decode(&plain.encode()), plain);
    assert!(head.encode().iter().filter(|byte| **byte != 0).count() > 95);
}

#[test]
fn only_our_file_names_are_segments() {
    assert_eq!(segment_of(&file_name(7), ".seg"), Some(7));
    assert_eq!(segment_of(&file_name(123_456_789), ".seg"), Some(123_456_789));
    for name in ["7.seg", "+0000007.seg", "00000000.seg", "00000007.seg.tmp", "00000007.sub", ".seg"] {
        assert_eq!(segment_of(name, ".seg"), None, "{name}");
    }
}

#[test]
fn a_checkpoint_changed_in_any_field_is_not_the_devices() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let commit =
        Commit { commit: 2, first: 1, records: 9, root: [4; 32], tree: [6; 32], unix_ms: 5, closed: false };
    let (payload, checkpoint) = commit.sign(&[1; 16], 3, &key);
    let device = key.verifying_key();
    assert_eq!(Commit::verify(&payload, &[1; 16], 3, &device), Some(commit));
    assert_eq!(Commit::verify(&payload, &[1; 16], 4, &device), None);
    assert_eq!(Commit::verify(&payload, &[2; 16], 3, &device), None);
    assert!(checkpoint.verify(&device));
    // A commit that the device did not write so would be taken here, and refused by whoever checks its checkpoint.
    let signed_again = |change: &dyn Fn(&mut [u8])| {
        let mut fields = commit.fields();
        change(&mut fields);
        let signature = key.sign(&Commit::message(&[1; 16], 3, &fields)).to_bytes();
        [fields.as_slice(), &signature].concat()
    };
    assert_eq!(Commit::parse(&signed_again(&|_| {})), Some(commit));
    assert_eq!(Commit::parse(&signed_again(&|fields| fields[96] = 2)), None);
    assert_eq!(Commit::parse(&signed_again(&|fields| fields[23] = 0x80)), None, "records that overflow");
    assert!(!Checkpoint { records: 8, ..checkpoint.clone() }.verify(&device));
    assert!(!Checkpoint { first: 2, ..checkpoint.clone() }.verify(&device));
    assert!(!Checkpoint { tree: "04".repeat(32), ..checkpoint.clone() }.verify(&device));
    assert!(!Checkpoint { closed: true, ..checkpoint.clone() }.verify(&device));
    assert!(!Checkpoint { segment: 4, ..checkpoint.clone() }.verify(&device));
    assert!(!Checkpoint { root: "00".repeat(32), ..checkpoint }.verify(&device));
}

#[test]
fn lengths_that_lie_give_no_frame() {
    for bytes in [b"R\xff\xff\xff\xffabc".as_slice(), b"R\x04\0\0\0abc", b"X\0\0\0\0", b"R\0\0\0", b""] {
        assert!(frame_at(bytes, 0).is_none());
    }
    assert_eq!(frame_at(b"R\x03\0\0\0abc", 0).unwrap().payload, b"abc");
    assert!(frame_at(b"R", usize::MAX).is_none());
}
