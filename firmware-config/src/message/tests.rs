use super::*;

#[test]
fn both_forms_are_read_and_mixtures_are_not() {
    for good in [
        r#"{"sequence":"ACGT","mutation":"A1C"}"#,
        r#"{"variant":"chr1-5-A-T","id":"x","lane":"batch"}"#,
        r#"{"sequence":"ACGT","model":"coding"}"#,
    ] {
        let r = Request::from_json(good.as_bytes()).unwrap();
        assert_eq!(Request::from_postcard(&postcard::to_stdvec(&r).unwrap()).unwrap(), r);
    }
    for bad in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"mutation":"A1C"}"#,
        r#"{"sequence":"A","transcript":{"strand":"+","exons":[],"cds":[]}}"#,
        r#"{"variant":"a","mutation":"A1C"}"#,
        r#"{"variant":"a","sequence":"A","mutation":"A1C"}"#,
        r#"{"variant":"a","id":""}"#,
        r#"{"variant":"a","id":"\u0007"}"#,
        r#"{"sequence":"A","mutation":"A1C","transcript":{"strand":"x","exons":[],"cds":[]}}"#,
    ] {
        assert_eq!(Request::from_json(bad.as_bytes()).unwrap_err().code, FaultCode::BadRequest, "{bad}");
    }
}

#[test]
fn a_fault_never_quotes_the_sequence() {
    let f = Request::from_json(br#"{"sequence":"ACGTACGT","mutation":5}"#).unwrap_err();
    assert!(!f.message.contains("ACGT"), "{}", f.message);
    let f = Request::from_json(br#"{"ACGTACGTACGTACGT":1}"#).unwrap_err();
    assert!(!f.message.contains("ACGT"), "{}", f.message);
    let f = Request::from_json(br#"{"acgtacgtacgtacgt":1}"#).unwrap_err();
    assert!(!f.message.contains("acgt"), "{}", f.message);
    for key in ["id", "model", "assembly", "gene", "transcript_id", "subject"] {
        let json = format!(r#"{{"variant":"chr1-5-A-T","{key}":"x ACGTNACGTNACGTN"}}"#);
        let f = Request::from_json(json.as_bytes()).unwrap_err();
        assert!(f.code == FaultCode::BadRequest && !format!("{f:?}").contains("ACGT"), "{f:?}");
    }
    let f = Request::from_json(br#"{"seqence":"A"}"#).unwrap_err();
    assert!(f.message.contains("seqence"), "{}", f.message);
}

#[test]
fn a_request_is_shown_by_lengths() {
    let json = br#"{"sequence":"ACGTACGT","mutation":"A1C","subject":"p-17","transcript":{"strand":"+","exons":[[4711,4712]],"cds":[]}}"#;
    let shown = format!("{:?}", Request::from_json(json).unwrap());
    assert!(shown.contains("sequence: Some(8)"), "{shown}");
    assert!(["ACGT", "A1C", "p-17", "4711"].iter().all(|held| !shown.contains(held)), "{shown}");
}

#[test]
fn bytes_after_a_postcard_request_are_refused() {
    let request = Request { variant: Some("chr1-5-A-T".into()), ..Request::default() };
    let mut bytes = postcard::to_stdvec(&request).unwrap();
    assert!(Request::from_postcard(&bytes).is_ok());
    bytes.push(0);
    assert_eq!(Request::from_postcard(&bytes).unwrap_err().code, FaultCode::BadRequest);
}

#[test]
fn a_code_of_a_later_version_is_read_as_unknown() {
    let json = br#"{"id":null,"code":"from_the_future","message":"x","retryable":true,"retry_after_ms":5}"#;
    let Outcome::Fault(fault) = Outcome::from_json(json).unwrap() else { panic!("an answer") };
    assert_eq!((fault.code, fault.retryable), (FaultCode::Unknown, true));
    let last = postcard::to_stdvec(&FaultCode::Unknown).unwrap();
    assert_eq!(usize::from(last[0]) + 1, FaultCode::ALL.len());
    assert_eq!(postcard::from_bytes::<FaultCode>(&[last[0] + 1]).unwrap(), FaultCode::Unknown);
}

#[test]
fn size_is_checked_first() {
    assert_eq!(Request::from_json(&vec![b'{'; MAX_MESSAGE_BYTES + 1]).unwrap_err().code, FaultCode::TooLarge);
    assert_eq!(Request::from_postcard(&[0xff; 40]).unwrap_err().code, FaultCode::BadRequest);
}

#[test]
fn every_code_reads_back_and_serialises_as_its_name() {
    for &code in FaultCode::ALL {
        assert_eq!(FaultCode::from_name(code.as_str()), Some(code));
        assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.as_str()));
    }
    let fault = Outcome::Fault(Fault::new(FaultCode::Busy, "x"));
    assert_eq!(Outcome::from_json(&fault.to_json()).unwrap(), fault);
}
