// Texts to begin with; a line each. Each set has texts that mean the same, and some that only look alike.

export const EXAMPLES = {
  "same words, other meaning": [
    "The bank raised its interest rate.",
    "Borrowing money has become more expensive.",
    "We had a picnic on the bank of the river.",
    "The stream was lined with willows.",
    "The pitcher threw the ball.",
    "She poured water from the pitcher.",
    "A jug stood on the table.",
    "The game went into extra innings.",
  ],
  "questions and answers": [
    "How long should I boil an egg?",
    "Eight minutes give a firm white and a soft yolk.",
    "How do I reset my password?",
    "Choose 'forgotten' on the sign-in page and follow the link we send.",
    "When does the last train leave?",
    "The final departure is at 23:40 from platform 2.",
  ],
  "one statement, many ways": [
    "The meeting was moved to Thursday.",
    "We will now meet on Thursday.",
    "The meeting was not moved to Thursday.",
    "Thursday's meeting was cancelled.",
    "La réunion est reportée à jeudi.",
    "He moved to Berlin on Thursday.",
  ],
};
