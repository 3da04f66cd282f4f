"""Estimates from independent trials, with their intervals."""

from activjax.stats._intervals import mean_interval as mean_interval
