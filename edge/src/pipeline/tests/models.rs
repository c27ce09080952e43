//! Which model answers, while models come and go.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn models_change_under_load_without_losing_a_request() {
    let made = Box_::new();
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..4)
        .map(|asker| {
            let (pipeline, stop) = (made.pipeline.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut asked = 0;
                while !stop.load(Ordering::Acquire) {
                    let id = format!("{asker}-{asked}");
                    index(&pipeline.ask("ward-1", "loopback", Ok(request(&id))).await);
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for round in 0..20 {
        let pipeline = made.pipeline.clone();
        tokio::task::spawn_blocking(move || {
            pipeline.swap(scorer()).unwrap();
            if round % 3 == 0 { pipeline.go_back(MODEL) } else { pipeline.confirm(MODEL) }
        })
        .await
        .unwrap();
    }
    stop.store(true, Ordering::Release);
    for asker in askers {
        assert!(asker.await.unwrap() > 0);
    }
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_without_a_trial_changes_nothing() {
    let made = a_box(Limits::default(), FaultyVfs::new());
    made.pipeline.swap(scorer()).unwrap();
    made.pipeline.go_back(MODEL);
    assert!(made.pipeline.active(MODEL).is_none(), "before the first model there was none");
    made.pipeline.swap(scorer()).unwrap();
    made.pipeline.confirm(MODEL);
    // A model that fails its proof is never on trial; who flashed it says that it is to go back all the same.
    made.pipeline.go_back(MODEL);
    index(&made.ask(request("a")).await);
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_for_a_model_is_not_answered_by_the_one_that_came_meanwhile() {
    let made = Box_::new();
    let held = made.hold().await;
    let digest = made.pipeline.active(MODEL).unwrap().info.digest.clone();
    let asked = made.queue(Request { model: Some(digest), ..request("a") }).await;
    let whichever = made.queue(request("b")).await;
    let another = variation(|manifest| manifest.version = "9.0.0".parse().unwrap());
    let (done, changed) = crossbeam_channel::bounded(1);
    made.pipeline.control.send(Control::Swap { loaded: another, done }).unwrap();
    drop(held);
    assert_eq!(code(&asked.await.unwrap()), FaultCode::UnknownModel);
    assert!(matches!(&*whichever.await.unwrap(), Outcome::Answer(answer) if answer.model.version == "9.0.0"));
    changed.recv().unwrap().unwrap();
    made.stop();
}

fn coding() -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/coding.locus");
    scored_by(&Bundle::open(path, &Trust::AllowUnsigned).unwrap())
}

/// Name and digest of the model that answered, or the fault.
fn by(outcome: &Arc<Outcome>) -> Result<(String, String), (FaultCode, String)> {
    match &**outcome {
        Outcome::Answer(answer) => Ok((answer.model.name.clone(), answer.model.digest.clone())),
        Outcome::Fault(fault) => Err((fault.code, fault.message.clone())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_of_a_request_chooses_among_models_and_a_name_is_kept_to() {
    let made = Box_::new();
    let alone = |id: &str| Request { mutation: None, ..request(id) };
    let (code, message) = by(&made.ask(alone("a")).await).unwrap_err();
    assert!(
        code == FaultCode::BadRequest && message.contains("(variant-effect) judge variants"),
        "{message}"
    );
    made.pipeline.swap(coding()).unwrap();
    made.pipeline.confirm("coding");
    let digest = made.pipeline.active("coding").unwrap().info.digest.clone();
    let answered = made.ask(alone("b")).await;
    assert_eq!(by(&answered).unwrap(), ("coding".to_owned(), digest.clone()));
    let Outcome::Answer(answer) = &*answered else { panic!("a fault") };
    assert_eq!(
        (answer.input_mode.as_str(), answer.band, answer.predicted_label),
        ("sequence", Band::None, None)
    );
    assert!(answer.abstained == answer.prediction.is_none(), "{answer:?}");
    assert_eq!(by(&made.ask(request("c")).await).unwrap().0, MODEL);
    for asked in ["coding", &digest] {
        let named = Request { model: Some(asked.to_owned()), ..alone(asked) };
        assert_eq!(by(&made.ask(named).await).unwrap().1, digest);
        let wrong = Request { model: Some(asked.to_owned()), ..request(&format!("w{}", &asked[..6])) };
        let (code, message) = by(&made.ask(wrong).await).unwrap_err();
        assert!(code == FaultCode::BadRequest && message.contains("expected a sequence alone"), "{message}");
    }
    made.pipeline.swap(variation(|manifest| manifest.name = "other-effect".into())).unwrap();
    let (code, message) = by(&made.ask(request("d")).await).unwrap_err();
    assert!(
        code == FaultCode::BadRequest && message.contains("one of other-effect, variant-effect"),
        "{message}"
    );
    let other = Request { model: Some("other-effect".into()), ..request("e") };
    assert_eq!(by(&made.ask(other).await).unwrap().0, "other-effect");
    made.pipeline.go_back("other-effect");
    assert_eq!(by(&made.ask(request("f")).await).unwrap().0, MODEL, "its trial ended, the others serve on");
    made.pipeline.remove("coding");
    assert_eq!(
        by(&made.ask(Request { model: Some("coding".into()), ..alone("g") }).await).unwrap_err().0,
        FaultCode::UnknownModel
    );
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_two_models_in_one_queue_are_each_answered_by_their_own() {
    let made = Box_::new();
    made.pipeline.swap(coding()).unwrap();
    let held = made.hold().await;
    let mut queued = Vec::new();
    for n in 0..20 {
        let asked = Request { mutation: (n % 3 != 0).then(|| "A42G".to_owned()), ..request(&n.to_string()) };
        queued.push((if n % 3 == 0 { "coding" } else { MODEL }, made.queue(asked).await));
    }
    let gone = made.queue(Request { mutation: None, ..request("gone") }).await;
    drop(held);
    for (model, asked) in queued {
        assert_eq!(by(&asked.await.unwrap()).unwrap().0, model);
    }
    assert_eq!(by(&gone.await.unwrap()).unwrap().0, "coding");
    assert_eq!(made.pipeline.tried("coding"), Some((8, 0)), "a trial counts its own answers");
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_marked_before_its_first_run_and_no_more_once_it_has_answered() {
    let folder = tempfile::tempdir().unwrap();
    let made = Setup { unproven: Unproven::open(folder.path()).unwrap(), ..Setup::default() }.start();
    made.pipeline.swap(scorer()).unwrap();
    let mark = folder.path().join(&made.pipeline.active(MODEL).unwrap().info.digest);
    // Whoever writes to a pipe waits for its reader: so the mark holds the first run up.
    let pipe = || assert!(std::process::Command::new("mkfifo").arg(&mark).status().unwrap().success());
    pipe();
    let pipeline = made.pipeline.clone();
    let asked = tokio::spawn(async move { pipeline.ask("ward-1", "loopback", Ok(request("a"))).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!asked.is_finished() && made.pipeline.proved().is_empty(), "it ran unmarked");
    let path = mark.clone();
    let reader = tokio::task::spawn_blocking(move || std::fs::File::open(path).unwrap());
    index(&asked.await.unwrap());
    reader.await.unwrap();
    assert!(!mark.exists() && made.pipeline.proved() == [MODEL]);
    pipe();
    index(&made.ask(request("b")).await);
    assert!(mark.exists(), "what has proved itself is left alone");
    made.stop();
}
