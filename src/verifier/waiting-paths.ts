/**
 * The paths that are still to be walked, last in first out.
 *
 * Problem: thousands of paths may wait, each until everything queued later was walked, and a state is half a dozen objects. Strategy:
 * only the last few paths are kept as they came: most programs never have more, and who queued one goes on to change its state.
 * The others are packed (`packed.ts`) without what does not matter to them, and put together again when their turn comes.
 *
 * Invariant: nobody changes, or keeps, a waiting path's state once another path was queued.
 */
import { Packed } from './packed.ts';
import { State } from './state.ts';

/** A path to walk later. */
export interface WaitingPath {
  readonly insn: number;
  readonly from: number;
  readonly state: State;
  readonly logPosition: number;
  /** Length of the history that it shares with the path it branched off from. */
  readonly historyLength: number;
  /** See `History`. */
  readonly remarkable: number;
  /** It starts in a callback. */
  readonly callback: boolean;
}

/** When so many wait as they came, the older ones are packed. */
const MOST = 48;
/** One in so many stays as it is. */
const STAYS = 3;

export class WaitingPaths {
  private readonly last: WaitingPath[] = [];
  private readonly liveIn: (path: WaitingPath, frame: number) => number;
  private readonly most: number;
  private packed = new Packed();
  private packedPaths = 0;

  /**
   * @param liveIn registers of a frame that matter to a path, as a set
   * @param most 6 or more
   */
  constructor(liveIn: (path: WaitingPath, frame: number) => number, most = MOST) {
    this.liveIn = liveIn;
    this.most = most;
  }

  get length(): number {
    return this.packedPaths + this.last.length;
  }

  push(path: WaitingPath): void {
    const { last, most } = this;
    if (last.length === most) {
      const stay = Math.floor(most / STAYS);
      for (let i = 0; i < most - stay; i++) this.pack(last[i]!);
      for (let i = 0; i < stay; i++) last[i] = last[most - stay + i]!;
      last.length = stay;
    }
    last.push(path);
  }

  pop(): WaitingPath | undefined {
    return this.last.pop() ?? (this.packedPaths === 0 ? undefined : this.unpack());
  }

  clear(): void {
    this.last.length = 0;
    this.packed = new Packed();
    this.packedPaths = 0;
  }

  private pack(path: WaitingPath): void {
    const { packed } = this;
    path.state.pack(packed, frame => this.liveIn(path, frame));
    const { insn, from, logPosition, historyLength, remarkable, callback } = path;
    packed.putNumbers(insn, from, logPosition, historyLength, remarkable, callback ? 1 : 0);
    this.packedPaths++;
  }

  private unpack(): WaitingPath {
    const { packed } = this;
    this.packedPaths--;
    const callback = packed.takeNumber() === 1;
    const remarkable = packed.takeNumber();
    const historyLength = packed.takeNumber();
    const logPosition = packed.takeNumber();
    const from = packed.takeNumber();
    const insn = packed.takeNumber();
    return { insn, from, state: State.unpack(packed), logPosition, historyLength, remarkable, callback };
  }
}
