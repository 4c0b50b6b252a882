import { callsSuite } from '../jit/suites/calls.ts';
import { arm64Platform } from './emulator.ts';

callsSuite(arm64Platform);
