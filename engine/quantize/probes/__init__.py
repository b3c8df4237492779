"""Small questions with answers that can be checked: where shrinking breaks a model, they show it.

The mean over a text hides rare failures; one wrong digit, brace or missing end of turn does not.
"""
