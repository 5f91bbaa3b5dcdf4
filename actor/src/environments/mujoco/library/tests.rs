use super::*;
use crate::environments::mujoco::locate;

/// The library, without which these tests cannot be.
fn library() -> &'static Library {
    locate::library().unwrap_or_else(|error| panic!("{error}"))
}

/// A ball for whose simulation there is memory, and a heap of them for which there is not.
fn heap(num_balls: usize) -> String {
    let ball = "<body><freejoint/><geom size='1'/></body>".repeat(num_balls);
    format!("<mujoco><size memory='100K'/><worldbody>{ball}</worldbody></mujoco>")
}

#[test]
fn an_error_of_mujoco_is_a_fault_and_not_the_end_of_the_process() {
    let model = Model::compile(library(), &heap(40)).unwrap();
    let mut simulations = Simulations::new(&model, 2, false).unwrap();
    let before = simulations.row(1).to_vec();
    let fault = simulations.step(1).unwrap_err();
    let start = "MuJoCo: 2 of 2 simulations failed; simulation 0: ";
    assert!(fault.message.starts_with(start), "{fault}");
    assert!(fault.message.contains("memory"), "{fault}");
    assert_eq!(simulations.row(1), before);
    // The library goes on.
    let model = Model::compile(library(), &heap(1)).unwrap();
    let mut simulations = Simulations::new(&model, 1, true).unwrap();
    simulations.step(1).unwrap();
    simulations.compute_contact_forces().unwrap();
}

#[test]
fn what_is_wrong_with_a_model_is_told() {
    for (xml, reason) in [
        ("<mujoco>", "XML"),
        (
            "<mujoco><worldbody><geom size='-1'/></worldbody></mujoco>",
            "size 0 must be positive",
        ),
        ("\0", "zero byte"),
    ] {
        let Err(fault) = Model::compile(library(), xml) else {
            panic!("{xml} was compiled");
        };
        assert!(fault.message.starts_with("MuJoCo: the model"), "{fault}");
        assert!(fault.message.contains(reason), "{fault}");
    }
}

#[test]
fn only_fields_of_real_numbers_are_shown() {
    let model = Model::compile(library(), &heap(1)).unwrap();
    let mut simulations = Simulations::new(&model, 1, false).unwrap();
    assert!(simulations.output("xpos").is_ok());
    // One that there is not, one of integers, and one of the model.
    for field in ["position", "ncon", "body_mass"] {
        let fault = simulations.output(field).unwrap_err();
        assert!(fault.message.contains(&format!("`{field}`")), "{fault}");
    }
    assert_eq!(model.constants("opt.timestep").unwrap(), [0.002]);
    assert!(model.constants("body_parentid").is_err());
    assert!(Simulations::new(&model, 0, false).is_err());
}
