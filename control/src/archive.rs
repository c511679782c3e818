//! Archives, before anything changes. They are not set up yet: a plan says so in the place where one will be taken.
//! Stands alone so that there is one sentence of it, and one place for what comes.

/// What a plan and a deployment say in the place of an archive.
pub const NOT_SET_UP: &str = "archives are not set up yet: nothing is copied before the change";
