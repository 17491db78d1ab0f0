# tries: objects that claim another class, and classes that claim every object
# holds: the type itself decides, not what it says
# kind: forgery
# answers: wrong

# %%
class Meta(type):
    __instancecheck__ = __subclasscheck__ = lambda cls, other: True

class Claims(metaclass=Meta):
    __class__ = property(lambda self: torch.Tensor)
    __eq__ = lambda self, other: True
    __hash__ = None
    __getattr__ = lambda self, name: self
    __call__ = __getitem__ = lambda self, *a, **k: self
    __float__ = lambda self: 1.0
    __iter__ = lambda self: iter([self])
    __array__ = lambda self, *a, **k: self

half = soft_max = cube = lambda x: Claims()
RunningMean = Claims
