/**
 * Tail-call semantics: the situations of the kernel's lib/test_bpf.c table and of its tailcall selftests, with results and
 * run counts. Each runs with a static and with a dynamic site: the interpreter reads the same slots for both.
 */
import { describe, expect, test } from 'vitest';
import { InterpreterError } from '../../src/interpreter/errors.ts';
import type { LinkedProgram } from '../../src/interpreter/linked-program.ts';
import { linkRoutine } from '../../src/interpreter/linked-program.ts';
import { assemble } from '../../src/isa/assembler.ts';
import { packTailCall } from '../../src/lowering/tail-call-imm.ts';
import { MapHeader, ProgArrayLayout, ProgramObject } from '../../src/memory/layout.ts';
import { lowered, type Machine, machine } from './support.ts';

const SLOTS = 8;

/** A machine with one prog array, and a block of counters that r1 of every program points to. */
class World {
  readonly machine: Machine = machine();
  readonly array: number;
  readonly counters: number;
  private readonly imm: number;
  private nextId = 1;

  constructor(dynamic: boolean) {
    const { arena } = this.machine;
    this.array = arena.allocate(ProgArrayLayout.ptrs + 2 * SLOTS * 8, 64);
    arena.view.setUint32(this.array + MapHeader.maxEntries, SLOTS, true);
    this.counters = arena.allocate(64);
    this.imm = packTailCall({ usedMap: 0, dynamic, poke: undefined });
    this.machine.routines.set('clobber', linkRoutine({ name: 'clobber', text: 'r1 = 0\nr2 = 0\nr0 = 0\nexit' }));
  }

  /** `tail N` stands for r2 = the array, r3 = N, the tail call; other text is assembly. Context is kept in r6. */
  program(text: string, stackDepth = 16): LinkedProgram {
    const expanded = text.replace(
      /^\s*tail (\S+)$/gm,
      (_, index: string) => `r2 = map_address[0] ll\nr3 = ${index}\ntail_call ${this.imm}`,
    );
    const insns = assemble(expanded, { internal: true });
    const address = this.machine.arena.address(this.array);
    const id = this.nextId++;
    const program = { lowered: lowered(insns, stackDepth), mapAddresses: [address], mapValueAddresses: [0n], id };
    this.machine.programs.set(id, program);
    return program;
  }

  set(index: number, program: LinkedProgram | undefined): void {
    const { arena } = this.machine;
    const word = this.array + ProgArrayLayout.ptrs + index * 8;
    if (program === undefined) {
      arena.view.setBigUint64(word, 0n, true);
      return;
    }
    const object = arena.allocate(ProgramObject.size, 64);
    arena.view.setUint32(object + ProgramObject.id, program.id, true);
    arena.view.setUint32(object + ProgramObject.alive, 1, true);
    arena.view.setBigUint64(word, arena.address(object), true);
  }

  run(program: LinkedProgram): bigint {
    this.machine.arena.bytes.fill(0, this.counters, this.counters + 64);
    return this.machine.interpreter.run(program, [this.machine.arena.address(this.counters)]);
  }

  counter(index: number): number {
    return this.machine.arena.view.getUint32(this.counters + 4 * index, true);
  }
}

const count = (index: number) => `r4 = *(u32 *)(r1 + ${4 * index})\nr4 += 1\n*(u32 *)(r1 + ${4 * index}) = r4`;

describe.each([
  { kind: 'static', dynamic: false },
  { kind: 'dynamic', dynamic: true },
])('$kind site', ({ dynamic }) => {
  test('a chain of one to four calls', () => {
    const world = new World(dynamic);
    world.set(0, world.program('r0 = 1\nexit'));
    for (let i = 1; i <= 4; i++) {
      const program = world.program(`${count(0)}\ntail ${i - 1}\nr0 = -1\nexit`);
      expect(world.run(program)).toBe(1n);
      expect(world.counter(0)).toBe(i);
      world.set(i, program);
    }
  });

  test('the limit: 34 program runs, the 34th call falls through', () => {
    const world = new World(dynamic);
    const self = world.program(`${count(0)}\ntail 0\nr0 = 7\nexit`);
    world.set(0, self);
    expect(world.run(self)).toBe(7n);
    expect(world.counter(0)).toBe(34);
    // Each run counts from zero.
    expect(world.run(self)).toBe(7n);
    expect(world.counter(0)).toBe(34);
  });

  test('the count outlives routine calls between the hops', () => {
    const world = new World(dynamic);
    const self = world.program(`${count(0)}\nr6 = r1\ncall routine clobber\nr1 = r6\ntail 0\nr0 = 7\nexit`);
    world.set(0, self);
    expect(world.run(self)).toBe(7n);
    expect(world.counter(0)).toBe(34);
  });

  test.each([
    ['empty slot', 1],
    ['index of max_entries', SLOTS],
    ['index of -1', -1],
    ['index with bit 31 set', -0x8000_0000],
  ])('%s falls through; registers and stack are kept', (_, index) => {
    const world = new World(dynamic);
    world.set(0, world.program('r0 = 99\nexit'));
    const text = `r0 = 1\nr6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n*(u64 *)(r10 - 8) = 10\ntail ${index}
      r0 = r6\nr0 += r7\nr0 += r8\nr0 += r9\nr1 = *(u64 *)(r10 - 8)\nr0 += r1\nexit`;
    expect(world.run(world.program(text))).toBe(40n);
  });

  test('a call that fails writes no r0', () => {
    const world = new World(dynamic);
    expect(world.run(world.program('r0 = 1234\ntail 1\nexit'))).toBe(1234n);
  });

  test('the index is a u32: the upper half of the register is ignored', () => {
    const world = new World(dynamic);
    world.set(3, world.program('r0 = 33\nexit'));
    const imm = packTailCall({ usedMap: 0, dynamic, poke: undefined });
    const text = `r2 = map_address[0] ll\nr3 = 0x500000003 ll\ntail_call ${imm}\nr0 = 0\nexit`;
    expect(world.run(world.program(text))).toBe(33n);
  });

  test('calls that fail do not count: range and empty slots, any number of them', () => {
    const world = new World(dynamic);
    const self = world.program(
      `r6 = r1\n${count(0)}\nr7 = 40\nagain:\nr1 = r6\ntail 5\nr1 = r6\ntail 100\nr7 += -1\nif r7 != 0 goto again\nr1 = r6\ntail 0\nr0 = 7\nexit`,
    );
    world.set(0, self);
    expect(world.run(self)).toBe(7n);
    expect(world.counter(0)).toBe(34);
  });

  test('the target starts with a fresh frame at the same place', () => {
    const world = new World(dynamic);
    world.set(1, world.program('r0 = r10\nexit', 512));
    for (const depth of [0, 16, 512]) {
      expect(world.run(world.program('tail 1\nr0 = 0\nexit', depth))).toBe(world.machine.stackTop);
    }
  });

  test('a chain of 33 programs of 512 bytes needs no more stack than one', () => {
    const world = new World(dynamic);
    const self = world.program(`${count(0)}\n*(u64 *)(r10 - 512) = 1\ntail 0\nr0 = 7\nexit`, 512);
    world.set(0, self);
    let lowest = world.machine.stackTop;
    world.machine.interpreter.run(self, [world.machine.arena.address(world.counters)], {
      onInstruction: event => {
        if (event.register(10) < lowest) lowest = event.register(10);
      },
    });
    expect(lowest).toBe(world.machine.stackTop);
    expect(world.counter(0)).toBe(34);
  });

  test('in a subprogram: replaces its frame only, the target returns to its caller', () => {
    const world = new World(dynamic);
    world.set(1, world.program('r0 = 5\nr6 = 0\nexit'));
    const main = world.program(
      'r6 = 100\n*(u64 *)(r10 - 8) = 1000\ncall sub\nr0 += r6\nr1 = *(u64 *)(r10 - 8)\nr0 += r1\nexit\nsub:\nr6 = 1\ntail 1\nr0 = 77\nexit',
    );
    expect(world.run(main)).toBe(1105n);
    world.set(1, undefined);
    expect(world.run(main)).toBe(1177n);
  });

  test('the count is shared by caller, subprogram and later siblings (hierarchy)', () => {
    const world = new World(dynamic);
    // The entry calls two subprograms, each of which tail-calls the entry: the selftest tailcall_bpf2bpf_hierarchy_1.
    const entry = world.program(
      `r6 = r1\n${count(0)}\ncall sub\nr1 = r6\ncall sub\nr0 = *(u32 *)(r6 + 0)\nexit\nsub:\ntail 0\nr0 = 0\nexit`,
    );
    world.set(0, entry);
    expect(world.run(entry)).toBe(34n);
    expect(world.counter(0)).toBe(34);
  });

  test('hierarchy over three entries and two programs', () => {
    const world = new World(dynamic);
    // tailcall_bpf2bpf_hierarchy_2: the entry's two subprograms tail-call two programs, each of which calls a subprogram that
    // tail-calls itself again: 33 calls in all go wherever they are made first.
    const first = world.program(`${count(1)}\ncall sub\nr0 = 1\nexit\nsub:\ntail 1\nr0 = 0\nexit`);
    const second = world.program(`${count(2)}\ncall sub\nr0 = 1\nexit\nsub:\ntail 2\nr0 = 0\nexit`);
    world.set(1, first);
    world.set(2, second);
    const entry = world.program(
      `r6 = r1\n${count(0)}\ncall a\nr1 = r6\ncall b\nr0 = *(u32 *)(r6 + 0)\nexit\na:\ntail 1\nr0 = 0\nexit\nb:\ntail 2\nr0 = 0\nexit`,
    );
    expect(world.run(entry)).toBe(1n);
    expect([world.counter(0), world.counter(1), world.counter(2)]).toEqual([1, 33, 0]);
  });

  test('a slot that is replaced or deleted while the array runs takes effect at the next hop', () => {
    const world = new World(dynamic);
    const other = world.program('r0 = 2\nexit');
    const { machine } = world;
    machine.services.set('swap', () => {
      world.set(0, other);
      return 0n;
    });
    machine.services.set('delete', () => {
      world.set(0, undefined);
      return 0n;
    });
    const text = (service: string) => `r6 = r1\n${count(0)}\ncall service ${service}\nr1 = r6\ntail 0\nr0 = 3\nexit`;
    const swapping = world.program(text('swap'));
    world.set(0, swapping);
    expect(world.run(swapping)).toBe(2n);
    expect(world.counter(0)).toBe(1);
    const deleting = world.program(text('delete'));
    world.set(0, deleting);
    expect(world.run(deleting)).toBe(3n);
    expect(world.counter(0)).toBe(1);
  });

  test('a callback’s tail call counts for the run, and returns to the routine', () => {
    const world = new World(dynamic);
    world.set(1, world.program(`${count(1)}\nr0 = 1\nexit`));
    const twice = 'r6 = r1\nr7 = r2\nr1 = r7\ncallx r6\nr8 = r0\nr1 = r7\ncallx r6\nr0 += r8\nexit';
    world.machine.routines.set('twice', linkRoutine({ name: 'twice', text: twice }));
    const main = world.program('r2 = r1\nr1 = func[cb] ll\ncall routine twice\nexit\ncb:\ntail 1\nr0 = 100\nexit');
    expect(world.run(main)).toBe(2n);
    expect(world.counter(1)).toBe(2);
  });

  test('a slot with a program that nobody knows is a typed error', () => {
    const world = new World(dynamic);
    const gone = world.program('exit');
    world.set(0, gone);
    world.machine.programs.delete(gone.id);
    expect(() => world.run(world.program('tail 0\nexit'))).toThrow(InterpreterError);
  });
});

describe('which array a site reads', () => {
  test('a dynamic site takes the array in r2, a static one the one it was compiled for', () => {
    for (const [dynamic, expected] of [
      [true, 2n],
      [false, 1n],
    ] as const) {
      const world = new World(dynamic);
      const { arena } = world.machine;
      world.set(0, world.program('r0 = 1\nexit'));
      const other = world.program('r0 = 2\nexit');
      const array = arena.allocate(ProgArrayLayout.ptrs + 16, 64);
      arena.view.setUint32(array + MapHeader.maxEntries, 1, true);
      const object = arena.allocate(ProgramObject.size, 64);
      arena.view.setUint32(object + ProgramObject.id, other.id, true);
      arena.view.setBigUint64(array + ProgArrayLayout.ptrs, arena.address(object), true);
      const imm = packTailCall({ usedMap: 0, dynamic, poke: undefined });
      const text = `r2 = ${arena.address(array)} ll\nr3 = 0\ntail_call ${imm}\nr0 = 0\nexit`;
      expect(world.run(world.program(text))).toBe(expected);
    }
  });
});
