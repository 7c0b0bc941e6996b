"""The mask convention: True on what is real."""

import torch

from clsr.padding import length_mask, pad


def test_a_mask_is_true_before_each_length():
    mask = length_mask(torch.tensor([2, 0, 3]), 4)
    assert mask.tolist() == [[True, True, False, False], [False] * 4, [True, True, True, False]]
    assert mask.sum(1).tolist() == [2, 0, 3]


def test_without_a_size_the_longest_fits():
    assert length_mask(torch.tensor([1, 3])).shape == (2, 3)
    assert length_mask(torch.tensor([0])).shape == (1, 0)
    assert length_mask(torch.tensor([], dtype=torch.long)).shape == (0, 0)


def test_rows_are_stacked_and_padded_with_zeros():
    rows, lengths = pad([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])])
    assert rows.tolist() == [[[1.0, 2.0], [0.0, 0.0]], [[3.0, 4.0], [5.0, 6.0]]]
    assert lengths.tolist() == [1, 2]


def test_an_empty_row_is_all_padding():
    rows, lengths = pad([torch.tensor([7]), torch.tensor([], dtype=torch.long)])
    assert rows.tolist() == [[7], [0]]
    assert lengths.tolist() == [1, 0]
