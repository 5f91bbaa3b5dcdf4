//! Specifications, their layouts and what they refuse.

use super::*;

fn spec(observation: &Space, action: &Space, hidden: &[usize]) -> Result<PolicySpec, SpecError> {
    PolicySpec::new(observation, action, hidden.to_vec(), Activation::Tanh)
}

#[test]
fn spaces_choose_encoder_and_head() {
    let image = Space::Box {
        shape: vec![2, 3],
        low: vec![0.0; 6],
        high: vec![1.0; 6],
    };
    let built = spec(&image, &Space::Discrete { n: 5 }, &[7]).unwrap();
    assert_eq!(built.encoder, Encoder::Identity { width: 6 });
    assert_eq!(built.head, Head::Categorical { num_actions: 5 });
    assert_eq!((built.observation_width(), built.action_width()), (6, 1));

    let built = spec(&Space::Discrete { n: 16 }, &image, &[]).unwrap();
    assert_eq!(built.encoder, Encoder::OneHot { n: 16 });
    assert_eq!(built.head, Head::DiagonalGaussian { dimension: 6 });
    assert_eq!((built.observation_width(), built.action_width()), (1, 6));
    assert_eq!(built.layer_shapes().collect::<Vec<_>>(), [(16, 6)]);
}

#[test]
fn layout_lists_the_tensors_in_libtorch_order() {
    let observation = Space::bounded(&[-1.0; 3], &[1.0; 3]);
    let layout = spec(
        &observation,
        &Space::bounded(&[-1.0; 2], &[1.0; 2]),
        &[4, 5],
    )
    .unwrap()
    .layout();
    let listed: Vec<_> = layout
        .tensors()
        .iter()
        .map(|tensor| (tensor.name(), tensor.shape(), tensor.offset()))
        .collect();
    let expected: [(&str, &[usize], usize); 7] = [
        ("policy.0.weight", &[4, 3], 0),
        ("policy.0.bias", &[4], 12),
        ("policy.1.weight", &[5, 4], 16),
        ("policy.1.bias", &[5], 36),
        ("policy.head.weight", &[2, 5], 41),
        ("policy.head.bias", &[2], 51),
        ("policy.log_std", &[2], 53),
    ];
    assert_eq!(listed, expected);
    assert_eq!(layout.len(), 55);
}

#[test]
fn networks_that_cannot_be_are_refused_with_the_field() {
    let four = Space::bounded(&[-1.0; 4], &[1.0; 4]);
    let two = Space::Discrete { n: 2 };
    for (built, field) in [
        (
            spec(&Space::bounded(&[], &[]), &two, &[4]),
            "encoder.identity.width",
        ),
        (
            spec(&Space::Discrete { n: 0 }, &two, &[4]),
            "encoder.one_hot.n",
        ),
        (
            spec(&four, &Space::Discrete { n: 0 }, &[4]),
            "head.categorical.num_actions",
        ),
        (spec(&four, &two, &[4, 0]), "hidden[1]"),
        (spec(&four, &two, &[usize::MAX]), "hidden[0]"),
    ] {
        assert!(matches!(built, Err(SpecError::Width { field: got, .. }) if got == field));
    }
    assert_eq!(
        spec(&four, &two, &[1; 65]),
        Err(SpecError::Depth { got: 65 })
    );
    // (4 + 1) * 2^16 + (2^16 + 1) * 2^16 + (2^16 + 1) * 2.
    assert_eq!(
        spec(&four, &two, &[1 << 16, 1 << 16]),
        Err(SpecError::Parameters { got: 4_295_491_586 })
    );
}

#[test]
fn serialised_specs_read_back_and_unknown_fields_are_refused() {
    let original = spec(&Space::Discrete { n: 3 }, &Space::Discrete { n: 2 }, &[8]).unwrap();
    let text = serde_json::to_string(&original).unwrap();
    assert_eq!(
        text,
        r#"{"encoder":{"one_hot":{"n":3}},"hidden":[8],"activation":"tanh","recurrent":null,"action_mask":false,"head":{"categorical":{"num_actions":2}}}"#
    );
    assert_eq!(serde_json::from_str::<PolicySpec>(&text).unwrap(), original);
    let earlier = text.replacen(r#""recurrent":null,"action_mask":false,"#, "", 1);
    assert_eq!(
        serde_json::from_str::<PolicySpec>(&earlier).unwrap(),
        original
    );
    let stranger = text.replacen("\"hidden\"", "\"depth\":1,\"hidden\"", 1);
    assert!(serde_json::from_str::<PolicySpec>(&stranger).is_err());
}
