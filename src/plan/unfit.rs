//! What is wrong with the options of a kind, and where in them.

use std::fmt;

/// One thing that does not make sense, and where it stands below `options`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The way to it, as far as it is known; none where it is about all options.
    pub path: Vec<Part>,
    /// What is wrong.
    pub why: String,
}

/// A step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The value of this key.
    Key(String),
    /// The element of a list, from 0.
    Item(usize),
}

/// Everything that is wrong with the options of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(pub Vec<Misfit>);

impl Unfit {
    /// That the value of this key makes no sense.
    pub fn at(key: &str, why: impl Into<String>) -> Unfit {
        Unfit::from(why.into()).below(Part::Key(key.to_owned()))
    }

    /// The same, further down.
    #[must_use]
    pub fn below(mut self, part: Part) -> Unfit {
        for misfit in &mut self.0 {
            misfit.path.insert(0, part.clone());
        }
        self
    }

    /// All that is wrong with the elements of the list under this key.
    ///
    /// # Errors
    /// Where anything is.
    pub fn each<E: Into<Unfit>>(
        key: &str,
        elements: impl IntoIterator<Item = Result<(), E>>,
    ) -> Result<(), Unfit> {
        let mut all = Vec::new();
        for (n, element) in elements.into_iter().enumerate() {
            if let Err(unfit) = element {
                let unfit = unfit.into().below(Part::Item(n));
                all.extend(unfit.below(Part::Key(key.to_owned())).0);
            }
        }
        match all.is_empty() {
            true => Ok(()),
            false => Err(Unfit(all)),
        }
    }
}

impl From<String> for Unfit {
    fn from(why: String) -> Unfit {
        Unfit(vec![Misfit {
            path: Vec::new(),
            why,
        }])
    }
}

impl From<&str> for Unfit {
    fn from(why: &str) -> Unfit {
        why.to_owned().into()
    }
}

impl fmt::Display for Misfit {
    /// With the way as it is written in problems: `statements[0].sql`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, part) in self.path.iter().enumerate() {
            match part {
                Part::Key(key) if n == 0 => f.write_str(key)?,
                Part::Key(key) => write!(f, ".{key}")?,
                Part::Item(item) => write!(f, "[{item}]")?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.why)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, misfit) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            f.write_str(&misfit.why)?;
        }
        Ok(())
    }
}
