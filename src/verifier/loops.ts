/**
 * Loops that converge by comparison (iterators, `may_goto`, callbacks): what is still to be learned about states inside them.
 *
 * Problem: a path that comes back to the head of its loop in a state that the head's covers ends there. What it would
 * have done is what the head's paths do, so it reads and relies on what they do; but those are not all walked yet. Until they
 * are, the marks of every state between head and end of that path (which slots are read, which numbers matter) are incomplete,
 * and comparing with them loosely would merge states that differ.
 *
 * Strategy: such a path is kept as a back edge, and the states on it remember the head. While the head is unfinished, they cover
 * only what they contain in full. When it is finished, the marks of each back edge's target are passed on to the path that ended
 * there, again and again until nothing changes. A path that ends at an unfinished state inside a loop is a back edge, too.
 *
 * The history (`history.ts`) goes on with other paths meanwhile, so a back edge keeps its own from the head on; what is
 * before the head is still there when the head is finished. A back edge that turns out to belong to a loop around it takes the
 * piece between the two heads along.
 *
 * Each such loop must come to an end. What bounds it is one iterator, one call with callbacks or one activation of a function with
 * `may_goto`: a state may stand for one further down the path only if that same thing has advanced in between. An endless loop that makes
 * a new iterator or call each time round gets to equal states, too. (Linux 6.18 accepts those.)
 *
 * Source: the kernel's handling of strongly connected components (propagate_backedges), found here by walking.
 */
import type { Analysis } from './analysis.ts';
import type { Segment } from './history.ts';
import { inheritPrecision, markEverything } from './precision.ts';
import type { IteratorSlot } from './stack-objects.ts';
import type { Checkpoint, Frame, State } from './state.ts';

/** History entries that all back edges together may keep; more than that, and everything counts as relied upon. */
const MAX_ENTRIES = 1 << 22;

/** A path that ended where `target` covered it. */
export interface BackEdge {
  readonly state: State;
  readonly target: Checkpoint;
  /** What the path processed from the loop's head on. */
  path: Segment;
  /** The target's marks when they were last passed on. */
  marks: Int32Array;
}

const same = (a: Int32Array, b: Int32Array): boolean => a.every((word, i) => word === b[i]);

/** The outermost unfinished loop that the state is known to be in. */
function headOf(checkpoint: Checkpoint): Checkpoint | undefined {
  let head = checkpoint.loopHead;
  while (head?.loopHead !== undefined && head.loopHead.pending > 0) head = head.loopHead;
  return head !== undefined && head.pending > 0 ? head : undefined;
}

/** May marks of this state still grow, though all paths from it have been walked? */
export function isIncomplete(checkpoint: Checkpoint): boolean {
  return headOf(checkpoint) !== undefined;
}

function iteratorIn(frame: Frame | undefined, slot: number): IteratorSlot | undefined {
  const object = frame?.slots[slot]?.object;
  return object?.kind === 'iterator' ? object : undefined;
}

/** Has something that bounds a loop around both states been used up by some more in `current`, further down the path of `old`? */
export function hasAdvanced(old: State, current: State): boolean {
  return old.frames.some((before, f) => {
    const now = current.frames[f];
    if (now === undefined || !now.isSameActivation(before)) return false;
    if (now.mayGotos > before.mayGotos) return true;
    if (now.callbackLoop === before.callbackLoop && now.callbackDepth > before.callbackDepth) return true;
    return before.slots.some((_, slot) => {
      const iterator = iteratorIn(before, slot);
      const later = iteratorIn(now, slot);
      return iterator?.active === true && iterator.reference === later?.reference && later.depth > iterator.depth;
    });
  });
}

/** Are the unfinished loops that the stored state is in bounded by the very things that bound those of `current`? */
export function isInSameLoops(stored: Checkpoint, current: State): boolean {
  let frames = 0;
  for (let head = stored.loopHead; head !== undefined; head = head.loopHead)
    if (head.pending > 0) frames = Math.max(frames, head.state.frames.length);
  for (let f = 0; f < frames; f++) {
    const before = stored.state.frames[f]!;
    const now = current.frames[f];
    if (now === undefined || !now.isSameActivation(before)) return false;
    if (stored.state.frames[f + 1]?.isCallback === true && now.callbackLoop !== before.callbackLoop) return false;
    for (let slot = 0; slot < before.slots.length; slot++) {
      const iterator = iteratorIn(before, slot);
      if (iterator?.active === true && iterator.reference !== iteratorIn(now, slot)?.reference) return false;
    }
  }
  return true;
}

/** The path in work ends at `target`: the head of its own loop, or a state inside an unfinished one. */
export function noteBackEdge(a: Analysis, target: Checkpoint): void {
  const { state } = a;
  a.keys.forgetAll();
  const head = target.pending > 0 ? target : headOf(target)!;
  for (let at = state.parent; at !== undefined && at !== head; at = at.parent) {
    const before = headOf(at);
    if (before === undefined || head.depth < before.depth) at.loopHead = head;
  }
  const entries = a.backEdges.reduce((sum, { path }) => sum + path.insns.length, a.history.length - head.position);
  if (entries > MAX_ENTRIES) {
    markEverything(state.parent);
    return;
  }
  head.isLoopHead = true;
  a.backEdges.push({ state: state.copy(), target, path: a.history.since(head.position), marks: target.copyMarks() });
}

/**
 * All paths from the loop's head have ended: marks go round until they are complete. What the history holds from the head on is
 * of no more use and is overwritten.
 */
export function finishLoop(a: Analysis, head: Checkpoint): void {
  const outer = a.backEdges.filter(({ path }) => path.start < head.position);
  const own = a.backEdges.filter(({ path }) => path.start >= head.position);
  for (let changed = true; changed; ) {
    changed = false;
    for (const edge of own) {
      const marks = edge.target.copyMarks();
      if (same(marks, edge.marks)) continue;
      edge.marks = marks;
      changed = true;
      a.history.restore(edge.path);
      inheritPrecision(a, edge.state, edge.target);
    }
  }
  a.backEdges.length = 0;
  a.backEdges.push(...outer);
  for (const edge of own) {
    const around = headOf(edge.target);
    if (around === undefined) continue;
    a.history.restore(edge.path);
    edge.path = a.history.since(around.position);
    a.backEdges.push(edge);
  }
}
