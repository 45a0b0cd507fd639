// What stands on the page before anything is typed.

export const QUERIES = [
  "how do sailors find the harbour at night?",
  "who was the first woman to win a Nobel prize?",
  "why does bread rise in the oven?",
  "what keeps the moon moving around the earth?",
];

export const DOCUMENTS = [
  "A lighthouse on the rocks shows ships the way into port after dark, and its fog horn warns them when nothing can be seen.",
  "Marie Curie received the Nobel Prize in Physics in 1903, shared with her husband, and that in Chemistry in 1911, alone.",
  "Yeast eats the sugars of the flour and gives off carbon dioxide; the dough holds the bubbles, and heat makes them swell.",
  "Gravity bends the path of the Moon into an orbit: it falls towards the Earth all the time, and always misses it.",
  "The harbour master of Hamburg counts ships, containers and, in a good winter, very little ice.",
  "Chandeliers were hung low enough for a servant to light every candle, and high enough to spare the guests the wax.",
  "Sailing boats cannot go straight into the wind; they tack, which takes longer and makes for better stories.",
  "The Nobel Peace Prize is awarded in Oslo, all the others in Stockholm, on the tenth of December.",
];
