"""The pure core: arrays, frames and records in, the same out; no I/O, clock, environment or global state.

Upstream to downstream: prices, quality, depeg, returns, correlation, scenarios, measures, payoff, loss_model,
sampling, intervals, simulation, stress, portfolio, alerts, backtest, replay, reverse_stress.
"""
