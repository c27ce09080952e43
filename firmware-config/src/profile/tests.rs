use super::*;

#[test]
fn every_shipped_profile_resolves_to_this() {
    for name in DeviceProfile::shipped() {
        let profile = DeviceProfile::named(name).unwrap();
        insta::assert_snapshot!(name, toml::to_string_pretty(&profile).unwrap());
    }
}

#[test]
fn no_profile_claims_hardware_that_locus_was_not_run_on() {
    let verified: Vec<&str> =
        DeviceProfile::shipped().filter(|name| DeviceProfile::named(name).unwrap().verified).collect();
    assert_eq!(verified, ["cpu-x86"]);
}

#[test]
fn every_profile_in_the_folder_is_shipped() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut shipped: Vec<&str> = DeviceProfile::shipped().collect();
    files.sort();
    shipped.sort_unstable();
    assert_eq!(files, shipped);
}

#[test]
fn a_child_overrides_and_unknown_keys_are_refused() {
    let p = DeviceProfile::parse("mine", "inherit = \"base\"\nintra_threads = 7\n").unwrap();
    assert_eq!((p.intra_threads, p.engines), (7, DeviceProfile::named("base").unwrap().engines));
    for unknown in ["speed = 1\n", "[[power_modes]]\nid = 0\nname = \"MAXN\"\nwatts = 15\n"] {
        let read = DeviceProfile::parse("x", &format!("inherit = \"base\"\n{unknown}"));
        assert!(matches!(read, Err(ProfileError::Toml { .. })), "{unknown}");
    }
    assert!(matches!(DeviceProfile::parse("x", "inherit = \"x\"\n"), Err(ProfileError::Cycle { .. })));
    assert!(matches!(DeviceProfile::parse("x", "inherit = \"no\"\n"), Err(ProfileError::Unknown { .. })));
    let bare = DeviceProfile::parse("x", "precision = \"auto\"\n").unwrap_err().to_string();
    assert!(bare.contains("engines = nothing") && bare.contains("inherit"), "{bare}");
}

#[test]
fn what_was_tried_is_not_inherited() {
    assert!(!DeviceProfile::parse("mine", "inherit = \"cpu-x86\"\n").unwrap().verified);
    assert!(DeviceProfile::parse("mine", "inherit = \"base\"\nverified = true\n").unwrap().verified);
}

#[test]
fn a_value_out_of_range_says_what_was_got_and_expected() {
    let table = [
        ("engines = [\"magic\"]", "engines = [\"magic\"], expected ort-tensorrt"),
        ("precision = \"fp16\"", "precision = fp16, expected auto"),
        ("intra_threads = 0", "intra_threads = 0, expected 1 to 64"),
        ("max_batch = 1025", "max_batch = 1025, expected 1 to 1,024"),
        ("buckets = [64, 32]", "buckets = [64, 32], expected up to 32 lengths"),
        ("buckets = [1]", "buckets = [1], expected up to 32 lengths"),
        ("cuda_device = 64", "cuda_device = 64, expected 0 to 63"),
        ("compute_capability = \"sm_87\"", "compute_capability = Some(\"sm_87\"), expected two numbers"),
        ("memory_gib = [0]", "memory_gib = [0], expected up to 32 sizes"),
        ("memory_budget_bytes = 1", "memory_budget_bytes = 1, expected at least 64 MiB"),
        (
            "memory_gib = [1, 8]\nmemory_budget_bytes = 2_147_483_648",
            "memory_budget_bytes = 2147483648, expected",
        ),
        ("tensorrt_workspace_bytes = 1", "tensorrt_workspace_bytes = 1, expected at least 1 MiB"),
        (
            "memory_budget_bytes = 134_217_728\ntensorrt_workspace_bytes = 268_435_456",
            "tensorrt_workspace_bytes = 268435456, expected",
        ),
        ("tensorrt_major = 7", "tensorrt_major = 7, expected 8 or more"),
        ("dla_cores = 9", "dla_cores = 9, expected 0 to 8"),
        ("dla_core = 0", "dla_core = 0, expected a number below dla_cores"),
        ("dla_cores = 2\ndla_core = 1", "dla_core = 1, expected none without the engine ort-tensorrt"),
        (
            "dla_cores = 2\ndla_core = 1\nengines = [\"ort-tensorrt\"]\nprecision = \"fp32\"",
            "dla_core = 1, expected none",
        ),
        ("openvino_device = \"TPU\"", "openvino_device = Some(\"TPU\"), expected CPU, GPU"),
        ("onnxruntime = [\"lib.so\"]", "onnxruntime = [\"lib.so\"], expected up to 32 absolute paths"),
        ("library_folders = [\"lib\"]", "library_folders = [\"lib\"], expected up to 32 absolute paths"),
        ("serial_ports = [\"COM1\"]", "serial_ports = [\"COM1\"], expected up to 32 names"),
        ("[[power_modes]]\nid = 0\nname = \"\"", "power_modes = [PowerMode { id: 0, name: \"\" }], expected"),
        (
            "power_modes = [{ id = 0, name = \"A\" }, { id = 0, name = \"B\" }]",
            "each with a number and a name of its own",
        ),
    ];
    for (text, said) in table {
        let error = DeviceProfile::parse("mine", &format!("inherit = \"base\"\n{text}\n")).unwrap_err();
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
}

#[test]
fn only_devices_with_accelerators_take_one() {
    let with_dla =
        |name: &str| DeviceProfile::parse("mine", &format!("inherit = \"{name}\"\ndla_core = 0\n"));
    for name in ["jetson-orin-nx", "jetson-agx-orin", "jetson-agx-xavier"] {
        assert_eq!(with_dla(name).unwrap().dla_core, Some(0));
    }
    for name in ["cpu-x86", "cpu-arm", "jetson-orin-nano", "jetson-thor"] {
        assert!(matches!(with_dla(name), Err(ProfileError::Value { field: "dla_core", .. })), "{name}");
    }
}
