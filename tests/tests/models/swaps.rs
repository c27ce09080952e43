//! Many swaps, still and under load: nobody fails, and every answer is of one bundle alone, the one that it names.

use super::*;

/// Two labels of a model that serve in turn, and what both say.
async fn pair(rig: &Rig, daemon: &Daemon, voices: &mut Voices) -> [(PathBuf, String); 2] {
    let mut http = Terminal::Http(daemon.http("listener").unwrap());
    let mut made = Vec::new();
    for (label, scale) in [("one", 0.75), ("two", 0.5)] {
        let path = weighted(rig, "variant-effect", label, scale);
        flash(rig, &path);
        let digest = listen(&mut http, "variant-effect", voices).await;
        made.push((path, digest));
    }
    made.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_each_of_ten_swaps_every_answer_is_of_the_bundle_that_was_flashed() {
    swaps(10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "50 swaps take minutes"]
async fn after_each_of_fifty_swaps_every_answer_is_of_the_bundle_that_was_flashed() {
    swaps(50).await;
}

async fn swaps(rounds: usize) {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    flash(&rig, &shipped(&rig, "coding"));
    let mut voices = Voices::new();
    let mut http = Terminal::Http(daemon.http("ward-1").unwrap());
    let coding = listen(&mut http, "coding", &mut voices).await;
    let models = pair(&rig, &daemon, &mut voices).await;
    let (mut answers, started) = (0, Instant::now());
    for round in 0..rounds {
        let (path, digest) = &models[round % 2];
        assert_eq!(flash(&rig, path)["digest"], digest.as_str());
        for (model, expected) in [("variant-effect", digest), ("coding", &coding)] {
            for (at, question) in questions(model).into_iter().enumerate() {
                let answer = answered(&mut http, &question).await;
                assert_eq!(answer.model.digest, *expected, "round {round}");
                is_own(&answer, at, &voices);
                answers += 1;
            }
        }
    }
    println!("{rounds} swaps in {:?}, {answers} answers, 0 of the wrong digest", started.elapsed());
    assert_eq!(health(&daemon)["engine_builds_while_serving"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_swaps_under_load_fail_nobody_and_mix_nothing() {
    swaps_under_load(20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "200 swaps under load take minutes"]
async fn two_hundred_swaps_under_load_fail_nobody_and_mix_nothing() {
    swaps_under_load(200).await;
}

async fn swaps_under_load(rounds: usize) {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    flash(&rig, &shipped(&rig, "coding"));
    let mut voices = Voices::new();
    let mut http = Terminal::Http(daemon.http("listener-1").unwrap());
    listen(&mut http, "coding", &mut voices).await;
    let models = pair(&rig, &daemon, &mut voices).await;
    let (stop, voices) = (Arc::new(AtomicBool::new(false)), Arc::new(voices));
    let terminals = [
        (Terminal::Http(daemon.http("ward-1").unwrap()), "variant-effect"),
        (Terminal::Http(daemon.http("ward-2").unwrap()), "variant-effect"),
        (Terminal::Http(daemon.http("ward-4").unwrap()), "coding"),
        (Terminal::Mqtt(Box::new(daemon.mqtt("ward-5").await.unwrap())), "variant-effect"),
        (Terminal::Mqtt(Box::new(daemon.mqtt("ward-6").await.unwrap())), "coding"),
    ];
    let askers: Vec<_> = terminals
        .into_iter()
        .map(|(mut terminal, model)| {
            let (stop, voices) = (Arc::clone(&stop), Arc::clone(&voices));
            tokio::spawn(async move {
                let questions = questions(model);
                let mut by = BTreeMap::<String, usize>::new();
                for n in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let at = n % questions.len();
                    let question = Request { id: Some(n.to_string()), ..questions[at].clone() };
                    let answer = answered(&mut terminal, &question).await;
                    assert_eq!(answer.model.name, model);
                    is_own(&answer, at, &voices);
                    *by.entry(answer.model.digest).or_default() += 1;
                }
                by
            })
        })
        .collect();
    let started = Instant::now();
    for round in 0..rounds {
        flash(&rig, &models[round % 2].0);
    }
    let took = started.elapsed();
    stop.store(true, Ordering::Release);
    let mut answers = BTreeMap::<String, usize>::new();
    for asker in askers {
        for (digest, n) in asker.await.unwrap() {
            *answers.entry(digest).or_default() += n;
        }
    }
    for (_, digest) in &models {
        assert!(answers.get(digest).is_some_and(|n| *n > 0), "{answers:?}");
    }
    let all: usize = answers.values().sum();
    println!("{rounds} swaps in {took:?} under load, {all} answers, 0 failed, 0 mixed");
    let metrics = String::from_utf8(daemon.operator().unwrap().get("/metrics").unwrap().1).unwrap();
    assert!(metrics.contains("locus_engine_builds_while_serving_total 0"), "{metrics}");
}
