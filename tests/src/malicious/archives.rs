//! What is wrong with the archive around the parts.

use super::{Draft, Kind, archive, header, push};

/// The archive with the header of its third entry changed.
fn with_header(small: &Draft, change: impl Fn(&mut tar::Header)) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, (name, content)) in small.entries().into_iter().enumerate() {
        let mut header = header(name.as_bytes(), content.len() as u64);
        if at == 2 {
            change(&mut header);
            header.set_cksum();
        }
        push(&mut bytes, &header, &content);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn named(small: &Draft, name: &[u8]) -> Vec<u8> {
    with_header(small, |header| {
        header.as_mut_bytes()[..100].fill(0);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    })
}

fn field(small: &Draft, at: usize, bytes: &[u8]) -> Vec<u8> {
    with_header(small, |header| header.as_mut_bytes()[at..at + bytes.len()].copy_from_slice(bytes))
}

fn with_entries(small: &Draft, change: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let mut entries = small.entries();
    change(&mut entries);
    archive(&entries)
}

pub(super) fn kinds(small: &Draft) -> Vec<Kind> {
    let good = small.bytes();
    let cut = |by: usize| good[..good.len() - by].to_vec();
    let sparse =
        |name, reason, length| Kind { length: Some(length), ..Kind::new(name, reason, good.clone()) };
    let name = "has a name that no part can have";
    let kind = "expected a regular file";
    let typed = |what, byte: u8| Kind::new(what, kind, field(small, 156, &[byte]));
    let pax = |what, byte: u8, text: &[u8]| {
        let mut bytes = Vec::new();
        let mut extended = header(b"pax", text.len() as u64);
        extended.as_mut_bytes()[156] = byte;
        extended.set_cksum();
        push(&mut bytes, &extended, text);
        bytes.extend_from_slice(&good);
        Kind::new(what, kind, bytes)
    };
    let sum = {
        let mut bytes = good.clone();
        bytes[148] ^= 1;
        bytes
    };
    let padding = {
        let mut bytes = good.clone();
        let manifest = small.entries()[0].1.len();
        bytes[512 + manifest.next_multiple_of(512) - 1] = 1;
        bytes
    };
    let closing = {
        let mut bytes = good.clone();
        *bytes.last_mut().expect("not empty") = 1;
        bytes
    };
    vec![
        Kind::new("an empty file", "ends early or is not a tar archive", Vec::new()),
        Kind::new("a file of one byte", "ends early or is not a tar archive", vec![0]),
        Kind::new(
            "a gzip file",
            "ends early or is not a tar archive",
            [&[0x1f, 0x8b, 8][..], &good[3..good.len() - 7]].concat(),
        ),
        Kind::new("a zip file", "has a damaged header", [&b"PK\x03\x04"[..], &good[4..]].concat()),
        Kind::new("only zeros", "is the end of the archive, expected manifest.json", vec![0; 4096]),
        Kind::new("cut within a block", "ends early or is not a tar archive", cut(7)),
        Kind::new("no closing blocks", "expected at most", cut(1024)),
        Kind::new("one closing block", "expected at most", cut(512)),
        Kind::new("cut in the last parts", "expected at most", good[..good.len() - 150_016].to_vec()),
        Kind::new(
            "a second archive behind the end",
            "follow the end of the archive",
            [good.clone(), good.clone()].concat(),
        ),
        Kind::new("a byte in the closing blocks", "follow the end of the archive", closing),
        Kind::new(
            "far too many zeros behind the end",
            "follow the end of the archive",
            [good.clone(), vec![0; 1 << 20]].concat(),
        ),
        sparse("a sparse file of 1.9 GiB", "follow the end of the archive", 1_900 << 20),
        sparse("a sparse file of 64 GiB", "expected at most 2147483648", 64 << 30),
        Kind::new("an absolute path", name, named(small, b"/etc/locus/locusd.toml")),
        Kind::new("a path upwards", name, named(small, b"../tokenizer.json")),
        Kind::new("a path upwards within", name, named(small, b"a/../../tokenizer.json")),
        Kind::new("a path into a folder", name, named(small, b"parts/tokenizer.json")),
        Kind::new("a path of another system", name, named(small, b"..\\tokenizer.json")),
        Kind::new("a drive", name, named(small, b"c:tokenizer.json")),
        Kind::new("an upper-case name", name, named(small, b"Tokenizer.json")),
        Kind::new("a hidden name", name, named(small, b".tokenizer.json")),
        Kind::new("an empty name", name, named(small, b"")),
        Kind::new("a name of 99 letters", name, named(small, &[b'a'; 99])),
        Kind::new("a name that is no text", name, named(small, b"\xff\xfe")),
        Kind::new("a name with a line end", name, named(small, b"tokenizer.json\nok")),
        Kind::new("a name that looks alike", name, named(small, "tokenizer․json".as_bytes())),
        Kind::new("a name in the prefix field", name, field(small, 345, b"..")),
        typed("a symbolic link", b'2'),
        typed("a hard link", b'1'),
        typed("a folder", b'5'),
        typed("a character device", b'3'),
        typed("a block device", b'4'),
        typed("a FIFO", b'6'),
        typed("a contiguous file", b'7'),
        typed("a GNU long name", b'L'),
        typed("a GNU long link", b'K'),
        typed("a GNU sparse file", b'S'),
        typed("a file of the old type", 0),
        pax("a pax header with a path", b'x', b"30 path=../../../etc/passwd  \n"),
        pax("a pax header with a size", b'x', b"24 size=99999999999999 \n"),
        pax("a global pax header", b'g', b"30 path=../../../etc/passwd  \n"),
        Kind::new("a GNU header", "is not ustar", field(small, 257, b"ustar  \0")),
        Kind::new("a header of the seventh edition", "is not ustar", field(small, 257, &[0; 8])),
        Kind::new("a wrong checksum", "has a damaged header (checksum", sum),
        Kind::new(
            "a size of eight gigabytes",
            "expected at most",
            with_header(small, |h| h.set_size((8 << 30) - 1)),
        ),
        Kind::new(
            "a size in base 256",
            "size is not octal",
            field(small, 124, &[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]),
        ),
        Kind::new("a size below zero", "size is not octal", field(small, 124, &[255; 12])),
        Kind::new("a size in words", "size is not octal", field(small, 124, b"very large\0\0")),
        Kind::new(
            "a size of one byte less",
            "part tokenizer.json has",
            with_header(small, |h| h.set_size(477)),
        ),
        Kind::new(
            "a size of one block more",
            "part tokenizer.json has",
            with_header(small, |h| h.set_size(990)),
        ),
        Kind::new("a size of zero", "part tokenizer.json has 0 bytes", with_header(small, |h| h.set_size(0))),
        Kind::new(
            "a link name on a file",
            "a regular file with a link name",
            field(small, 157, b"/etc/passwd"),
        ),
        Kind::new("something in the padding", "its padding is not zero", padding),
        Kind::new(
            "a part twice",
            "is tokenizer.json, expected config.json",
            with_entries(small, |e| e.insert(3, e[2].clone())),
        ),
        Kind::new("the manifest twice", "expected", with_entries(small, |e| e.push(e[0].clone()))),
        Kind::new(
            "a part too many",
            "is run.sh, expected the end",
            with_entries(small, |e| e.push(("run.sh".into(), b"rm -rf /".to_vec()))),
        ),
        Kind::new(
            "a part missing",
            "is the end of the archive, expected int8-fp16.onnx",
            with_entries(small, |e| drop(e.pop())),
        ),
        Kind::new(
            "parts in another order",
            "is config.json, expected tokenizer.json",
            with_entries(small, |e| e.swap(2, 3)),
        ),
        Kind::new("no manifest", "expected manifest.json", with_entries(small, |e| drop(e.remove(0)))),
        Kind::new(
            "one bit of a part changed",
            "part int8-fp16.onnx has SHA-256",
            with_entries(small, |e| e.last_mut().expect("parts").1[3] ^= 1),
        ),
        Kind::new(
            "a manifest of 2 MiB",
            "part manifest.json says 2097152 bytes",
            with_entries(small, |e| e[0].1 = vec![b' '; 2 << 20]),
        ),
    ]
}
