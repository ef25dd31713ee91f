//! The default choices of a plan: who asks, and in which languages.

/// People who ask, as the teacher's prompt describes them.
pub const PERSONAS: [&str; 12] = [
    "a parent in a hurry",
    "a retired person who writes whole, polite sentences",
    "a teenager who writes casually",
    "a terse professional who leaves out every word that is not needed",
    "someone who is not a native speaker and keeps sentences simple",
    "someone who talks to a voice assistant across the room",
    "a driver who speaks hands-free",
    "a careful planner who mentions why",
    "a student late at night",
    "someone who begins with small talk before asking",
    "a technician who uses exact terms and figures",
    "someone who phrases requests as questions",
];

/// Languages of [`Kind::OtherLanguage`](crate::kind::Kind::OtherLanguage).
pub const LANGUAGES: [&str; 8] =
    ["Spanish", "German", "French", "Portuguese", "Italian", "Hindi", "Japanese", "Arabic"];
