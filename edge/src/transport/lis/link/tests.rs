use proptest::prelude::*;

use super::*;

const TIMES: Times = Times {
    reply: Duration::from_secs(15),
    frame: Duration::from_secs(30),
    busy: Duration::from_secs(10),
    contention: Duration::from_secs(20),
};
const NOW: Duration = Duration::from_secs(100);

fn take(link: &mut Link, bytes: &[u8]) -> (Vec<u8>, Vec<Event>) {
    let (mut out, mut events) = (Vec::new(), Vec::new());
    for &byte in bytes {
        events.extend(link.receive(NOW, byte, &mut out));
    }
    (out, events)
}

fn message(text: &[u8]) -> Event {
    Event::Message(Zeroizing::new(text.to_vec()))
}

#[test]
fn a_frame_is_as_the_standard_writes_it() {
    // Sum of '1', "H|\\^&", CR and ETX: 0x31 + 0x48 + 0x7C + 0x5C + 0x5E + 0x26 + 0x0D + 0x03 = 0x1E5.
    assert_eq!(&frames(b"H|\\^&\r")[0][..], b"\x021H|\\^&\r\x03E5\r\n");
    let numbers: Vec<u8> = frames(&[b'x'; 240 * 9]).iter().map(|frame| frame[1]).collect();
    assert_eq!(numbers, b"123456701");
}

#[test]
fn a_message_of_many_frames_comes_whole_and_repeats_are_taken_once() {
    let text: Vec<u8> = (0..2_500_u32).map(|n| b'A' + (n % 26) as u8).collect();
    let mut link = Link::new(TIMES);
    assert_eq!(take(&mut link, &[ENQ]).0, [ACK]);
    for frame in frames(&text) {
        for _ in 0..2 {
            assert_eq!(take(&mut link, &frame), (vec![ACK], vec![]));
        }
    }
    assert_eq!(take(&mut link, &[EOT]).1, [message(&text)]);
}

#[test]
fn what_is_wrong_is_refused_and_sent_again() {
    let good = frames(b"H\r")[0].to_vec();
    let mut wrong_sum = good.clone();
    wrong_sum[5] ^= 1;
    let other = frames(&[b'x'; 500])[1].to_vec();
    for bad in [&wrong_sum[..], &other, b"\x02\n", b"\x021\n", b"\x02\xff\xff\xff\xff\xff\r\n"] {
        let mut link = Link::new(TIMES);
        take(&mut link, &[ENQ]);
        assert_eq!(take(&mut link, bad), (vec![NAK], vec![Event::Refused("framing")]), "{bad:?}");
        assert_eq!(take(&mut link, &good).0, [ACK]);
        assert_eq!(take(&mut link, &[EOT]).1, [message(b"H\r")]);
    }
    // Cut off after a frame that does not end the message.
    let mut link = Link::new(TIMES);
    take(&mut link, &[ENQ]);
    take(&mut link, &frames(&[b'x'; 500])[0]);
    assert_eq!(take(&mut link, &[EOT]).1, [Event::Refused("framing")]);
    // A terminal that is silent in the middle.
    let mut link = Link::new(TIMES);
    take(&mut link, &[ENQ]);
    assert_eq!(link.tick(NOW + TIMES.frame, &mut Vec::new()), Some(Event::Refused("slow")));
    assert_eq!(take(&mut link, &[ENQ]).0, [ACK]);
}

#[test]
fn a_message_is_no_larger_than_on_other_transports() {
    let mut link = Link::new(TIMES);
    take(&mut link, &[ENQ]);
    let all = frames(&vec![b'x'; MAX_MESSAGE_BYTES + 1]);
    let (last, fit) = all.split_last().unwrap();
    for frame in fit {
        assert_eq!(take(&mut link, frame).0, [ACK]);
    }
    assert_eq!(take(&mut link, last), (vec![NAK], vec![Event::Refused("too_large")]));
}

#[test]
fn what_is_sent_is_repeated_six_times_and_tried_three() {
    let mut link = Link::new(TIMES);
    link.send(Zeroizing::new(b"H\rL|1|N\r".to_vec()));
    let frame = frames(b"H\rL|1|N\r")[0].to_vec();
    let (mut now, mut given_up) = (NOW, None);
    for attempt in 0..ATTEMPTS {
        let mut out = Vec::new();
        assert_eq!(link.tick(now, &mut out), None);
        assert_eq!(out, [ENQ]);
        assert_eq!(take(&mut link, &[ACK]).0, frame);
        for _ in 0..RETRIES {
            assert_eq!(take(&mut link, &[NAK]).0, frame);
        }
        let (out, events) = take(&mut link, &[NAK]);
        assert_eq!(out, [EOT], "{attempt}");
        given_up = events.into_iter().next();
        now = NOW + TIMES.busy;
    }
    assert_eq!((given_up, link.due()), (Some(Event::Refused("not_taken")), None));
}

#[test]
fn the_terminal_goes_first_and_the_answer_follows() {
    let mut link = Link::new(TIMES);
    link.send(Zeroizing::new(b"one\r".to_vec()));
    let mut out = Vec::new();
    link.tick(NOW, &mut out);
    assert_eq!(out, [ENQ]);
    assert!(take(&mut link, &[ENQ]).0.is_empty());
    assert_eq!(take(&mut link, &[ENQ]).0, [ACK]);
    take(&mut link, &frames(b"Q\r")[0]);
    assert_eq!(take(&mut link, &[EOT]).1, [message(b"Q\r")]);
    assert_eq!(link.due(), Some(NOW + TIMES.contention));
    out.clear();
    link.tick(NOW + TIMES.contention, &mut out);
    assert_eq!(out, [ENQ]);
    take(&mut link, &[ACK]);
    assert_eq!(take(&mut link, &[ACK]), (vec![EOT], vec![Event::Sent]));
    // A terminal that does not answer at all.
    link.send(Zeroizing::new(b"two\r".to_vec()));
    let mut now = NOW + TIMES.contention;
    for left in (0..ATTEMPTS).rev() {
        out.clear();
        link.tick(now, &mut out);
        now += TIMES.reply;
        let given_up = link.tick(now, &mut out);
        assert_eq!((&out[..], given_up.is_some()), (&[ENQ, EOT][..], left == 0));
        now += TIMES.busy;
    }
}

#[test]
fn a_terminal_that_takes_no_answers_is_told_that_the_box_is_busy() {
    let mut link = Link::new(TIMES);
    for _ in 0..MAX_WAITING {
        link.send(Zeroizing::new(b"x\r".to_vec()));
    }
    assert_eq!(take(&mut link, &[ENQ]), (vec![NAK], vec![Event::Refused("busy")]));
}

proptest! {
    #[test]
    fn after_any_noise_and_a_pause_the_next_message_is_read(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        waits in any::<bool>(),
    ) {
        let mut link = Link::new(TIMES);
        if waits {
            link.send(Zeroizing::new(b"x\r".to_vec()));
            link.tick(NOW, &mut Vec::new());
        }
        take(&mut link, &noise);
        link.tick(NOW + TIMES.frame, &mut Vec::new());
        if matches!(link.state, State::Enquired) {
            take(&mut link, &[ENQ]);
        }
        prop_assert_eq!(take(&mut link, &[ENQ]).0, [ACK]);
        take(&mut link, &frames(b"next\r")[0]);
        prop_assert_eq!(take(&mut link, &[EOT]).1, [message(b"next\r")]);
    }
}
