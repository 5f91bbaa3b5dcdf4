//! Models and their simulations, made by and stepped with a [`Library`].

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;

use super::{BatchConfig, Component, Library, MESSAGE_BYTES, ModelAndData, Opaque, fault};
use crate::environments::EnvironmentFault;

/// `mjSTAGE_NONE`: compute nothing beyond what the call does anyway.
const STAGE_NONE: c_int = 0;
/// `mjSTAGE_ACC`: compute everything, as `mj_forward`.
const STAGE_ALL: c_int = 3;
/// `mjOBJ_BODY`.
const OBJECT_BODY: c_int = 1;

/// A compiled model.
pub(in super::super) struct Model {
    library: &'static Library,
    pointer: NonNull<Opaque>,
}

impl Model {
    /// Compiles a model in MJCF that refers to no other files.
    ///
    /// # Errors
    /// What MuJoCo finds wrong with it.
    pub(in super::super) fn compile(
        library: &'static Library,
        xml: &str,
    ) -> Result<Self, EnvironmentFault> {
        let functions = &library.functions;
        let text = CString::new(xml).map_err(|_| fault("the model contains a zero byte"))?;
        let mut message = [0_u8; MESSAGE_BYTES];
        // SAFETY: the text is terminated, no virtual file system is given as is allowed, and the
        // message has the room that is stated.
        let spec = unsafe {
            (functions.mj_parseXMLString)(
                text.as_ptr(),
                ptr::null(),
                message.as_mut_ptr().cast(),
                MESSAGE_BYTES as c_int,
            )
        };
        if spec.is_null() {
            return Err(fault(&format!("the model: {}", text_in(&message))));
        }
        // SAFETY: the specification was made above, is compiled and read once and then deleted;
        // the compiler traps its errors and gives no model.
        unsafe {
            let pointer = NonNull::new((functions.mj_compile)(spec, ptr::null()));
            let result = pointer
                .map(|pointer| Self { library, pointer })
                .ok_or_else(|| {
                    let reason = CStr::from_ptr((functions.mjs_getError)(spec)).to_string_lossy();
                    fault(&format!("the model: {}", reason.trim_end()))
                });
            (functions.mj_deleteSpec)(spec);
            result
        }
    }

    /// Values of a part of the state.
    pub(in super::super) fn state_size(&self, component: Component) -> usize {
        // SAFETY: the model lives, and the component is a bit that the library knows.
        let size = unsafe {
            (self.library.functions.mj_stateSize)(self.pointer.as_ptr(), component as c_int)
        };
        size as usize
    }

    /// The bodies, with the world as the first.
    pub(in super::super) fn num_bodies(&self) -> usize {
        self.state_size(Component::BodyForces) / 6
    }

    /// The index of the body of this name.
    pub(in super::super) fn body(&self, name: &str) -> Option<usize> {
        let name = CString::new(name).ok()?;
        // SAFETY: the model lives and the name is terminated.
        let index = unsafe {
            (self.library.functions.mj_name2id)(self.pointer.as_ptr(), OBJECT_BODY, name.as_ptr())
        };
        usize::try_from(index).ok()
    }

    /// The values of a real field of the model, which is named as in `mjModel` (`opt.timestep`, ..).
    ///
    /// # Errors
    /// Where there is no such field or MuJoCo has no memory.
    pub(in super::super) fn constants(&self, field: &str) -> Result<Vec<f64>, EnvironmentFault> {
        // A batch shows a field by making it one of each simulation, which costs it time from then
        // on; hence a batch of its own.
        let probe = Simulations::new(self, 1, false)?;
        let array = probe.array(self.library.functions.mjb_expand, field)?;
        Ok(probe.values(array, 0).to_vec())
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the model was made by the library and is deleted once; batches have copies.
        unsafe { (self.library.functions.mj_deleteModel)(self.pointer.as_ptr()) };
    }
}

/// An array of a batch with a row of `width` values for each simulation.
#[derive(Clone, Copy, Debug)]
struct Array {
    first: NonNull<f64>,
    width: usize,
}

/// One of the outputs of the [`Simulations`] that gave it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Output(usize);

/// Simulations of one model, stepped by the thread that calls.
pub(in super::super) struct Simulations {
    library: &'static Library,
    pointer: NonNull<Opaque>,
    count: usize,
    states: Array,
    outputs: Vec<Array>,
    /// Calls change what the arrays hold, so that simulations are not shared between threads.
    not_sync: PhantomData<Cell<()>>,
}

// SAFETY: a batch is memory that whoever calls works on, with no thread of its own (it is made with
// one thread, the caller's) and nothing that belongs to the thread that made it; calls take
// `&mut self`, and `PhantomData<Cell<()>>` keeps it from being shared.
unsafe impl Send for Simulations {}

impl Simulations {
    /// Makes `count` simulations of the model, each in the model's default state.
    ///
    /// Where they are `persistent`, each keeps all that it computed until its next step, so that
    /// [`Self::compute_contact_forces`] can follow a step; otherwise they share one workspace.
    ///
    /// # Errors
    /// Where MuJoCo has no memory for them.
    pub(in super::super) fn new(
        model: &Model,
        count: usize,
        persistent: bool,
    ) -> Result<Self, EnvironmentFault> {
        let library = model.library;
        let functions = &library.functions;
        let config = BatchConfig {
            num_threads: 1,
            persistent,
        };
        let num_simulations = c_int::try_from(count).ok().filter(|count| *count > 0);
        let num_simulations = num_simulations
            .ok_or_else(|| fault(&format!("{count} is no number of simulations")))?;
        let mut message = [0_u8; MESSAGE_BYTES];
        // SAFETY: the model lives and is copied, and the message has the room that is stated.
        let pointer = unsafe {
            (functions.mjb_makeBatch)(
                model.pointer.as_ptr(),
                num_simulations,
                &raw const config,
                message.as_mut_ptr().cast(),
                MESSAGE_BYTES as c_int,
            )
        };
        let Some(pointer) = NonNull::new(pointer) else {
            return Err(fault(&text_in(&message)));
        };
        // SAFETY: the batch was just made; its states are `mjb_nstate` values for each simulation.
        let (first, width) = unsafe {
            let width = (functions.mjb_nstate)(pointer.as_ptr()) as usize;
            (NonNull::new((functions.mjb_state)(pointer.as_ptr())), width)
        };
        let states = Array {
            first: first.ok_or_else(|| fault("the simulations have no state"))?,
            width,
        };
        Ok(Self {
            library,
            pointer,
            count,
            states,
            outputs: Vec::new(),
            not_sync: PhantomData,
        })
    }

    /// The state of a simulation: all that its future depends on besides its controls.
    ///
    /// # Panics
    /// If there is no such simulation.
    pub(in super::super) fn row(&self, index: usize) -> &[f64] {
        self.values(self.states, index)
    }

    /// The same to be written: what stands there is the state at the next call.
    ///
    /// # Panics
    /// If there is no such simulation.
    pub(in super::super) fn row_mut(&mut self, index: usize) -> &mut [f64] {
        assert!(index < self.count, "one of the simulations");
        let Array { first, width } = self.states;
        // SAFETY: the array holds `count` rows of this width, which belong to the batch and stay
        // where they are until it is deleted; the borrow of `self` keeps calls away meanwhile.
        unsafe { slice::from_raw_parts_mut(first.as_ptr().add(index * width), width) }
    }

    /// Where a part of the state stands in a row.
    pub(in super::super) fn component(&mut self, component: Component) -> Range<usize> {
        let mut size = 0;
        // SAFETY: the batch lives, the component is one bit that the library knows, and the result
        // points into the first row.
        let offset = unsafe {
            let first = (self.library.functions.mjb_stateComponent)(
                self.pointer.as_ptr(),
                component as c_int,
                &raw mut size,
            );
            first.offset_from(self.states.first.as_ptr())
        };
        offset as usize..offset as usize + size as usize
    }

    /// From now on every call shows this real field of `mjData`.
    ///
    /// # Errors
    /// Where there is no such field.
    pub(in super::super) fn output(&mut self, field: &str) -> Result<Output, EnvironmentFault> {
        let array = self.array(self.library.functions.mjb_output, field)?;
        self.outputs.push(array);
        Ok(Output(self.outputs.len() - 1))
    }

    /// What the last call showed in an output, for a simulation.
    ///
    /// # Panics
    /// If there is no such simulation or output.
    pub(in super::super) fn shown(&self, output: Output, index: usize) -> &[f64] {
        self.values(self.outputs[output.0], index)
    }

    /// The array that a function of the library gives for a field.
    fn array(
        &self,
        function: unsafe extern "C" fn(
            *mut Opaque,
            *const c_char,
            *mut c_int,
            *mut c_int,
        ) -> *mut c_void,
        field: &str,
    ) -> Result<Array, EnvironmentFault> {
        let unknown = || {
            fault(&format!(
                "this MuJoCo has no field `{field}` of real numbers"
            ))
        };
        let name = CString::new(field).map_err(|_| unknown())?;
        let (mut width, mut element_bytes) = (0, 0);
        // SAFETY: the batch lives, the name is terminated and both results have their place.
        let first = unsafe {
            function(
                self.pointer.as_ptr(),
                name.as_ptr(),
                &raw mut width,
                &raw mut element_bytes,
            )
        };
        match (NonNull::new(first.cast()), usize::try_from(element_bytes)) {
            (Some(first), Ok(size_of_f64)) if size_of_f64 == size_of::<f64>() => Ok(Array {
                first,
                width: width as usize,
            }),
            _ => Err(unknown()),
        }
    }

    /// What an array of this batch holds for a simulation.
    fn values(&self, array: Array, index: usize) -> &[f64] {
        assert!(index < self.count, "one of the simulations");
        // SAFETY: arrays stay within the batch that they belong to, hold `count` rows of this width
        // and live as long as it does; the borrow of `self` keeps calls, which write them, away
        // meanwhile.
        unsafe { slice::from_raw_parts(array.first.as_ptr().add(index * array.width), array.width) }
    }

    /// Brings a simulation to the model's default state.
    ///
    /// # Errors
    /// What MuJoCo stumbled over; the simulation then keeps its state. So with the other calls.
    ///
    /// # Panics
    /// If there is no such simulation.
    pub(in super::super) fn reset(&mut self, index: usize) -> Result<(), EnvironmentFault> {
        assert!(index < self.count, "one of the simulations");
        let id = index as c_int;
        // SAFETY: the batch lives, the one simulation is one of its own, and no key frames are given.
        let failed = unsafe {
            (self.library.functions.mjb_reset)(
                self.pointer.as_ptr(),
                &raw const id,
                1,
                ptr::null(),
                STAGE_NONE,
            )
        };
        self.outcome(failed)
    }

    /// Computes everything that follows from a simulation's state, as `mj_forward`.
    ///
    /// # Errors
    /// As [`Self::reset`].
    ///
    /// # Panics
    /// If there is no such simulation.
    pub(in super::super) fn forward(&mut self, index: usize) -> Result<(), EnvironmentFault> {
        assert!(index < self.count, "one of the simulations");
        let id = index as c_int;
        // SAFETY: the batch lives and the one simulation is one of its own.
        let failed = unsafe {
            (self.library.functions.mjb_forward)(self.pointer.as_ptr(), &raw const id, 1, STAGE_ALL)
        };
        self.outcome(failed)
    }

    /// Advances every simulation by `num_steps` steps of its clock. As after `mj_step`, derived
    /// fields are those before the last of them.
    ///
    /// # Errors
    /// As [`Self::reset`].
    pub(in super::super) fn step(&mut self, num_steps: u32) -> Result<(), EnvironmentFault> {
        // SAFETY: the batch lives, and no identifiers stand for all of its simulations.
        let failed = unsafe {
            (self.library.functions.mjb_step)(
                self.pointer.as_ptr(),
                ptr::null(),
                0,
                num_steps as c_int,
                STAGE_NONE,
            )
        };
        self.outcome(failed)
    }

    /// Computes the forces on each body from what the last step left (`mj_rnePostConstraint`), of
    /// simulations that are persistent.
    ///
    /// # Errors
    /// As [`Self::reset`].
    pub(in super::super) fn compute_contact_forces(&mut self) -> Result<(), EnvironmentFault> {
        let functions = &self.library.functions;
        let mut function = functions.mj_rnePostConstraint;
        // SAFETY: the batch lives, no identifiers stand for all of its simulations, and the
        // argument is what `call` expects and outlives the call, which is made on this thread.
        let failed = unsafe {
            (functions.mjb_apply)(
                self.pointer.as_ptr(),
                ptr::null(),
                0,
                call,
                (&raw mut function).cast(),
                0,
            )
        };
        self.outcome(failed)?;
        // SAFETY: as above. Nothing is computed; outputs are copied after every call but `apply`.
        let failed =
            unsafe { (functions.mjb_forward)(self.pointer.as_ptr(), ptr::null(), 0, STAGE_NONE) };
        self.outcome(failed)
    }

    /// The first error of the last call, in which `failed` simulations had one.
    fn outcome(&self, failed: c_int) -> Result<(), EnvironmentFault> {
        if failed == 0 {
            return Ok(());
        }
        let functions = &self.library.functions;
        // SAFETY: the batch lives; it holds a status for each simulation, and messages that are
        // valid until its next call.
        let first = unsafe {
            let status = (functions.mjb_status)(self.pointer.as_ptr());
            let status = slice::from_raw_parts(status, self.count);
            let index = status.iter().position(|status| *status != 0).unwrap_or(0);
            let message = (functions.mjb_error)(self.pointer.as_ptr(), index as c_int);
            (index, CStr::from_ptr(message).to_string_lossy())
        };
        Err(fault(&format!(
            "{failed} of {} simulations failed; simulation {}: {}",
            self.count, first.0, first.1
        )))
    }
}

impl Drop for Simulations {
    fn drop(&mut self) {
        // SAFETY: the batch was made by the library and is deleted once; its arrays are reached
        // through `self` only.
        unsafe { (self.library.functions.mjb_deleteBatch)(self.pointer.as_ptr()) };
    }
}

/// Calls the function that `argument` points at, for one simulation.
///
/// # Safety
/// `argument` must point at a [`ModelAndData`]. An error leaves this frame by `longjmp`, which is
/// allowed because it owns nothing that would have to be dropped.
unsafe extern "C" fn call(
    model: *const Opaque,
    data: *mut Opaque,
    _simulation: c_int,
    argument: *mut c_void,
) {
    // SAFETY: the caller says what the argument is, and the batch passes its model and data.
    unsafe { (*argument.cast::<ModelAndData>())(model, data) }
}

/// The text that the library wrote into a buffer.
fn text_in(buffer: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(buffer).unwrap_or_default();
    text.to_string_lossy().trim_end().to_owned()
}
