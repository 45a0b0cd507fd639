// The page: a model, the texts, and what the one finds in the others.

import { Desk } from "./desk.js";
import { ModelCard } from "./model-card.js";
import { Pieces } from "./checkpoint/pieces.js";

const desk = new Desk();
const card = new ModelCard({
  pieces: await Pieces.open(),
  onOpened: (model) => desk.setModel(model),
  onLost: () => desk.setModel(null),
});
card.loadFromAddress();
